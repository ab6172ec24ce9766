"""Sums, constant factors, joins of expressions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from idl_cli.errors import UnsupportedModelError
from idl_cli.models.tracing.expressions import Expression, States, stacked
from idl_cli.models.tracing.operations.arguments import (
    Operation,
    array,
    as_expression,
    constant_beside,
    sample_axis,
)


def _add(states: States, left: Any, right: Any, alpha: float = 1) -> Expression:
    del states
    if not isinstance(left, Expression):
        left = as_expression(left, right)
    if not isinstance(right, Expression):
        right = as_expression(right, left)
    total: Expression = left.plus(right, float(alpha))
    return total


def _sub(states: States, left: Any, right: Any, alpha: float = 1) -> Expression:
    return _add(states, left, right, -alpha)


def _rsub(states: States, left: Any, right: Any, alpha: float = 1) -> Expression:
    return _add(states, right, left, -alpha)


def _neg(states: States, value: Expression) -> Expression:
    del states
    return value.negated


def _mul(states: States, left: Any, right: Any) -> Expression:
    del states
    if isinstance(left, Expression) and isinstance(right, Expression):
        raise UnsupportedModelError("a product of two values that both depend on the input")
    value, other = (left, right) if isinstance(left, Expression) else (right, left)
    factors = constant_beside(other, value)
    shape = np.broadcast_shapes(value.shape, factors.shape)
    return value.broadcast(shape).scaled(factors)


def _div(states: States, left: Any, right: Any) -> Expression:
    if isinstance(right, Expression):
        raise UnsupportedModelError("a quotient by a value that depends on the input")
    return _mul(states, left, 1 / array(right))


def _cat(states: States, values: Sequence[Any], dim: int = 0) -> Expression:
    del states
    one = next(each for each in values if isinstance(each, Expression))
    axis = sample_axis(dim, one)
    if not all(isinstance(each, Expression) for each in values):
        raise UnsupportedModelError("a value is joined with a constant")
    begin, places = 0, []
    for each in values:
        size = len(each.constant)
        places.append(np.arange(begin, begin + size).reshape(each.shape))
        begin += size
    return stacked(list(values)).gathered(np.concatenate(places, axis=axis))


def _stack(states: States, values: Sequence[Any], dim: int = 0) -> Expression:
    axis = dim % (len(values[0].shape) + 2)
    if axis == 0:
        raise UnsupportedModelError("it works along the axis of the samples")
    shape = values[0].shape
    wider = [each.reshaped((*shape[: axis - 1], 1, *shape[axis - 1 :])) for each in values]
    return _cat(states, wider, axis)


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "add": _add,
        "sub": _sub,
        "subtract": _sub,
        "rsub": _rsub,
        "neg": _neg,
        "mul": _mul,
        "multiply": _mul,
        "div": _div,
        "divide": _div,
        "true_divide": _div,
        "cat": _cat,
        "concat": _cat,
        "concatenate": _cat,
        "stack": _stack,
    }
)
