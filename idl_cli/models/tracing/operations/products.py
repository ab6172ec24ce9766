"""Products with constant matrices and kernels, and normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from idl_cli.errors import UnsupportedModelError
from idl_cli.models.tracing import linear_maps
from idl_cli.models.tracing.expressions import Expression, States
from idl_cli.models.tracing.operations.arguments import (
    Operation,
    array,
    as_expression,
    each_of,
    optional_array,
    paddings,
    running_statistics,
)


def _matmul(states: States, left: Any, right: Any) -> Expression:
    del states
    if isinstance(left, Expression) and isinstance(right, Expression):
        raise UnsupportedModelError("a matrix product of two values that both depend on the input")
    if isinstance(left, Expression):
        return linear_maps.times(left, _one_matrix(right))
    return linear_maps.times_from_left(_one_matrix(left), right)


def _one_matrix(tensor: Any) -> np.ndarray:
    matrix = array(tensor)
    return matrix[0] if matrix.ndim == 3 and matrix.shape[0] == 1 else matrix


def _linear(states: States, value: Expression, weight: Any, bias: Any = None) -> Expression:
    del states
    return linear_maps.times(value, array(weight).T, optional_array(bias))


def _addmm(
    states: States, bias: Any, left: Any, right: Any, beta: float = 1, alpha: float = 1
) -> Expression:
    product = _matmul(states, left, right).scaled(np.asarray(float(alpha)))
    return product.plus(as_expression(array(bias) * beta, product))


def _conv(dimensions: int) -> Operation:
    def operation(
        states: States,
        value: Expression,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Expression:
        del states
        kernel = array(weight)
        spread = each_of(dilation, dimensions)
        pairs = paddings(padding, kernel.shape[2:], spread)
        return linear_maps.convolution(
            value,
            kernel,
            optional_array(bias),
            stride=each_of(stride, dimensions),
            padding=pairs,
            dilation=spread,
            groups=groups,
        )

    return operation


def _batch_norm(
    states: States,
    value: Expression,
    weight: Any,
    bias: Any,
    mean: Any,
    variance: Any,
    training: bool,
    momentum: float,
    epsilon: float,
    cudnn: bool,
) -> Expression:
    del states, momentum, cudnn
    mean, variance = running_statistics(training, mean, variance)
    return linear_maps.normalised(
        value, optional_array(weight), optional_array(bias), array(mean), array(variance), epsilon
    )


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "matmul": _matmul,
        "mm": _matmul,
        "bmm": _matmul,
        "mv": _matmul,
        "linear": _linear,
        "addmm": _addmm,
        "conv1d": _conv(1),
        "conv2d": _conv(2),
        "batch_norm": _batch_norm,
    }
)
