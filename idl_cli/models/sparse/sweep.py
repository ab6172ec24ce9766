"""x = φ(Ax + b) for a strictly block triangular sparse A: block after block, exact."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from idl_cli.equilibrium.activations import Activation
from idl_cli.models.sparse.matrix import SparseMatrix, compressed, entry_gradients, transposed


@dataclass(frozen=True)
class Block:
    """States [start, stop) that do not feed each other and share an activation."""

    start: int
    stop: int
    activation: Activation


def solve(matrix: SparseMatrix, offset: Tensor, blocks: Sequence[Block]) -> Tensor:
    """The x (n, m) with x = φ(Ax + b), differentiable in b and in A's entries.

    Args:
        matrix: A (n, n); a block depends on those after it alone.
        offset: b (n, m).
        blocks: of the states in their order, the last evaluated first.
    """
    x: Tensor = _Sweep.apply(matrix.values, offset, matrix, tuple(blocks))  # type: ignore[no-untyped-call]
    return x


class _Sweep(torch.autograd.Function):
    """Backward: v = d ⊙ (g + Aᵀv) in the other order; ∂b = v, ∂a_ij = Σ v_i x_j."""

    @staticmethod
    def forward(ctx, values: Tensor, offset: Tensor, matrix: SparseMatrix, blocks):  # type: ignore[no-untyped-def]
        x = offset.clone(memory_format=torch.contiguous_format)
        needs_slopes = any(ctx.needs_input_grad[:2])
        slopes = torch.empty_like(x) if needs_slopes else None
        for block, places in _rows(matrix, reversed(blocks)):
            part = x[block.start : block.stop]
            if places is not None:
                starts, entries = places
                rows = (len(part), len(x))
                part += compressed(starts, matrix.indices[entries], values[entries], rows) @ x
            if slopes is not None:
                slopes[block.start : block.stop] = block.activation.derivative(part)
            part.copy_(block.activation.function(part))
        ctx.matrix, ctx.blocks = matrix, blocks
        ctx.save_for_backward(values, x, slopes)
        return x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor):  # type: ignore[no-untyped-def]
        values, x, slopes = ctx.saved_tensors
        matrix = ctx.matrix
        v = gradient.clone(memory_format=torch.contiguous_format)
        for block, places in _rows(matrix, ctx.blocks):
            part = v[block.start : block.stop]
            part *= slopes[block.start : block.stop]
            if places is not None:
                starts, entries = places
                rows = (len(part), len(x))
                turned = transposed(starts, matrix.indices[entries], values[entries], rows)
                v += turned @ part
        return entry_gradients(matrix, v, x) if ctx.needs_input_grad[0] else None, v, None, None


def _rows(
    matrix: SparseMatrix, blocks: Iterator[Block] | Sequence[Block]
) -> Iterator[tuple[Block, tuple[Tensor, slice] | None]]:
    """Each block with where its rows begin and its entries; None where its rows are zero."""
    starts = matrix.starts
    ends = starts.tolist()
    for block in blocks:
        first, last = ends[block.start], ends[block.stop]
        if first == last:
            yield block, None
        else:
            own = starts[block.start : block.stop + 1] - first
            yield block, (own, slice(first, last))
