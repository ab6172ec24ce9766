"""What the arguments of an operation on a batch are for one sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.sparse
import torch

from idl_cli.errors import UnsupportedModelError
from idl_cli.models.tracing.expressions import Expression

Operation = Callable[..., Any]
"""(states, *arguments of the torch operation) to expressions, or to a list of them."""


def array(tensor: Any) -> np.ndarray:
    """A constant in float64."""
    if isinstance(tensor, torch.Tensor):
        return np.asarray(tensor.detach().double().cpu())
    return np.asarray(tensor, dtype=np.float64)


def optional_array(tensor: Any) -> np.ndarray | None:
    """A constant in float64 where there is one."""
    return None if tensor is None else array(tensor)


def constant_beside(tensor: Any, value: Expression) -> np.ndarray:
    """A constant as it meets a value: without the axis of samples, which must be 1 or missing."""
    found = array(tensor)
    if found.ndim > len(value.shape):
        if found.ndim > len(value.shape) + 1 or found.shape[0] != 1:
            raise UnsupportedModelError(
                f"a constant of shape {found.shape} meets a value of shape {value.shape} a sample;"
                " it would depend on the place of the sample in its batch"
            )
        found = found[0]
    return found


def sample_axis(dimension: int, value: Expression) -> int:
    """A dimension of the batch as an axis of a sample."""
    axis = dimension % (len(value.shape) + 1) - 1
    if axis < 0:
        raise UnsupportedModelError("it works along the axis of the samples")
    return axis


def sample_axes(dimensions: Any, value: Expression) -> list[int]:
    """One dimension of the batch or several as axes of a sample."""
    if dimensions is None or dimensions == []:
        raise UnsupportedModelError("it works along the axis of the samples")
    listed = [dimensions] if isinstance(dimensions, int) else list(dimensions)
    return [sample_axis(each, value) for each in listed]


def as_expression(constant: Any, beside: Expression) -> Expression:
    """A constant as an expression that can meet another."""
    found = constant_beside(constant, beside)
    empty = scipy.sparse.csr_matrix((found.size, beside.matrix.shape[1]))
    return Expression(empty, found.ravel(), found.shape)


def each_of(number: Any, count: int) -> list[int]:
    """One number an axis."""
    listed = [number] if isinstance(number, int) else list(number)
    return listed * count if len(listed) == 1 else listed


def paddings(padding: Any, kernel: Sequence[int], dilation: Sequence[int]) -> list[tuple[int, int]]:
    """Entries before and after each axis of a convolution, of numbers, ``same`` or ``valid``."""
    if padding == "valid":
        return [(0, 0)] * len(kernel)
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(each, each) for each in each_of(padding, len(kernel))]


def pool_strides(stride: Any, kernel: Sequence[int]) -> list[int]:
    """The strides of a pooling, which are its windows' sizes where none are given."""
    return each_of(stride, len(kernel)) if stride else list(kernel)


def running_statistics(training: bool, mean: Any, variance: Any) -> tuple[Any, Any]:
    """The mean and variance of a batch normalisation, which must not depend on the batch."""
    if training or mean is None or variance is None:
        raise UnsupportedModelError(
            "batch normalisation with the statistics of each batch (training mode, or "
            "track_running_stats=False)"
        )
    return mean, variance
