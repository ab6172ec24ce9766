"""Operators of every form beside the matrices that they are, the matrices made without them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from idl_cli.equilibrium.operators import (
    BlockOperator,
    ConvolutionLayout,
    ConvolutionOperator,
    DenseOperator,
    LowRankOperator,
    Operator,
    SparseOperator,
    SparsePattern,
    SparseTriangularOperator,
    StrictlyUpperTriangularOperator,
    TransposedOperator,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def convolution_matrix(kernel: Tensor, layout: ConvolutionLayout) -> Tensor:
    """The matrix of a convolution, entry by entry of its definition."""
    height, width = layout.output_size(kernel.shape[2])
    outputs, per_group = kernel.shape[0], layout.channels // layout.groups
    matrix = kernel.new_zeros(height, width, outputs, layout.height, layout.width, layout.channels)
    for out in range(outputs):
        group = out // (outputs // layout.groups)
        for row in range(height):
            for column in range(width):
                for i in range(kernel.shape[2]):
                    for j in range(kernel.shape[3]):
                        y = row * layout.stride + i - layout.padding
                        x = column * layout.stride + j - layout.padding
                        if 0 <= y < layout.height and 0 <= x < layout.width:
                            channels = slice(group * per_group, (group + 1) * per_group)
                            matrix[row, column, out, y, x, channels] = kernel[out, :, i, j]
    return matrix.reshape(outputs * height * width, -1)


def few(size: int, seed: int = 0) -> Tensor:
    matrix = normal(size, size, seed=seed)
    return matrix * (normal(size, size, seed=seed + 1) > 0.5)


@dataclass(frozen=True)
class Case:
    """How an operator is made of its factors, raw ones, and the matrix of such factors."""

    make: Callable[..., Operator]
    factors: tuple[Tensor, ...]
    matrix: Callable[..., Tensor]


def _sparse(kind: type[SparseOperator], matrix: Tensor) -> Case:
    pattern = SparsePattern.of(matrix)

    def dense(values: Tensor) -> Tensor:
        places = (pattern.rows, pattern.columns)
        return values.new_zeros(matrix.shape).index_put(places, values)

    return Case(lambda values: kind(values, pattern), (pattern.values(matrix),), dense)


def _convolution(layout: ConvolutionLayout, *kernel: int) -> Case:
    return Case(
        lambda k: ConvolutionOperator(k, layout),
        (normal(*kernel),),
        lambda k: convolution_matrix(k, layout),
    )


SAME = ConvolutionLayout(2, 3, 4, padding=1)
GROUPED = ConvolutionLayout(4, 2, 3, padding=1, groups=2)
HALVED = ConvolutionLayout(2, 4, 4, stride=2, padding=1)  # to 3 channels of 2 x 2
COARSE = ConvolutionLayout(3, 2, 2, padding=1)
FINE = ConvolutionLayout(2, 4, 4, padding=1)


def _scales(fine: Tensor, down: Tensor, up: Tensor, coarse: Tensor) -> BlockOperator:
    return BlockOperator(
        [
            [ConvolutionOperator(fine, FINE), TransposedOperator(ConvolutionOperator(up, HALVED))],
            [ConvolutionOperator(down, HALVED), ConvolutionOperator(coarse, COARSE)],
        ]
    )


def _scales_matrix(fine: Tensor, down: Tensor, up: Tensor, coarse: Tensor) -> Tensor:
    above = torch.cat((convolution_matrix(fine, FINE), convolution_matrix(up, HALVED).t()), dim=1)
    below = torch.cat((convolution_matrix(down, HALVED), convolution_matrix(coarse, COARSE)), dim=1)
    return torch.cat((above, below))


def _mixed(dense: Tensor, left: Tensor, right: Tensor) -> BlockOperator:
    return BlockOperator([[None, DenseOperator(dense)], [LowRankOperator(left, right), None]])


def _mixed_matrix(dense: Tensor, left: Tensor, right: Tensor) -> Tensor:
    matrix = dense.new_zeros(7, 7)
    matrix = matrix.slice_scatter(torch.cat((dense.new_zeros(3, 3), dense), dim=1), 0, 0, 3)
    return matrix.slice_scatter(torch.cat((left @ right.t(), dense.new_zeros(4, 4)), dim=1), 0, 3)


SQUARE = {
    "dense": Case(DenseOperator, (normal(7, 7),), lambda a: a),
    "low rank": Case(
        LowRankOperator, (normal(7, 2), normal(7, 2, seed=1)), lambda left, right: left @ right.t()
    ),
    "triangular": Case(
        lambda a: StrictlyUpperTriangularOperator(a.triu(1)), (normal(7, 7),), lambda a: a.triu(1)
    ),
    "sparse": _sparse(SparseOperator, few(7)),
    "sparse triangular": _sparse(SparseTriangularOperator, few(9).triu(1)),
    "no non-zeros": _sparse(SparseTriangularOperator, torch.zeros(3, 3).double()),
    "convolution": _convolution(SAME, 2, 2, 3, 3),
    "grouped convolution": _convolution(GROUPED, 4, 2, 3, 3),
    "transposed": Case(
        lambda k: TransposedOperator(ConvolutionOperator(k, SAME)),
        (normal(2, 2, 3, 3),),
        lambda k: convolution_matrix(k, SAME).t(),
    ),
    "scales": Case(
        _scales,
        (normal(2, 2, 3, 3), normal(3, 2, 3, 3), normal(3, 2, 3, 3), normal(3, 3, 3, 3)),
        _scales_matrix,
    ),
    "mixed": Case(_mixed, (normal(3, 4), normal(4, 1), normal(3, 1)), _mixed_matrix),
}

WIDE = {
    "strided convolution": _convolution(HALVED, 3, 2, 3, 3),
    # What the stride leaves over differs in height and width; no padding; an even kernel.
    "left over": _convolution(ConvolutionLayout(1, 6, 5, stride=3), 2, 1, 2, 2),
    "sparse rectangle": _sparse(SparseOperator, few(9)[:4]),
    "transposed sparse": Case(
        lambda a: TransposedOperator(DenseOperator(a)), (normal(3, 5),), lambda a: a.t()
    ),
}
