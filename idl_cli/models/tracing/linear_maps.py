"""Linear layers, convolutions, averages and normalisation as sparse maps of expressions."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import scipy.sparse

from idl_cli.errors import UnsupportedModelError
from idl_cli.models.tracing.expressions import Expression
from idl_cli.models.tracing.windows import Axis


def times(value: Expression, matrix: np.ndarray, bias: np.ndarray | None = None) -> Expression:
    """The last axis times a matrix (in, out): value @ matrix + bias."""
    if matrix.ndim == 1:
        return times(value, matrix[:, None]).reshaped(value.shape[:-1])
    if matrix.ndim != 2 or not value.shape or value.shape[-1] != matrix.shape[0]:
        raise UnsupportedModelError(
            f"a product of a value of shape {value.shape} a sample with a matrix {matrix.shape}"
        )
    count = prod(value.shape[:-1])
    each = scipy.sparse.csr_matrix(matrix.T)
    linear = each if count == 1 else scipy.sparse.kron(scipy.sparse.eye_array(count), each, "csr")
    shape = (*value.shape[:-1], matrix.shape[1])
    constant = 0.0 if bias is None else np.broadcast_to(bias, shape).ravel()
    return value.mapped(linear.tocsr(), shape, constant)


def times_from_left(matrix: np.ndarray, value: Expression) -> Expression:
    """A matrix (out, in) times the last but one axis: matrix @ value."""
    if matrix.ndim != 2 or len(value.shape) < 2 or value.shape[-2] != matrix.shape[1]:
        raise UnsupportedModelError(
            f"a product of a matrix {matrix.shape} with a value of shape {value.shape} a sample"
        )
    turned = times(_swapped(value), matrix.T)
    return _swapped(turned)


def _swapped(value: Expression) -> Expression:
    places = np.arange(len(value.constant)).reshape(value.shape)
    return value.gathered(np.swapaxes(places, -1, -2))


def convolution(
    value: Expression,
    weight: np.ndarray,
    bias: np.ndarray | None,
    *,
    stride: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    groups: int,
) -> Expression:
    """A convolution as torch computes it, padded with zeros.

    Args:
        value: (channels, *axes).
        weight: (out channels, channels / groups, *kernel).
        bias: (out channels,).
        stride: one an axis.
        padding: before and after, one pair an axis.
        dilation: one an axis.
        groups: of channels.
    """
    dimensions = weight.ndim - 2
    if len(value.shape) != dimensions + 1 or value.shape[0] != weight.shape[1] * groups:
        raise UnsupportedModelError(
            f"a convolution with weights {weight.shape} and {groups} groups of a value of shape "
            f"{value.shape} a sample"
        )
    axes = [
        Axis(size, kernel, each_stride, before, after, each_dilation)
        for size, kernel, each_stride, (before, after), each_dilation in zip(
            value.shape[1:], weight.shape[2:], stride, padding, dilation, strict=True
        )
    ]
    out_channels, depth = weight.shape[:2]
    patches = window_entries(value.shape, axes)  # (channels, windows, kernel)
    windows, kernel = patches.shape[1:]
    own = patches.reshape(groups, depth, windows, kernel).transpose(0, 2, 1, 3)
    own = own.reshape(groups, windows, depth * kernel)
    of_channel = np.repeat(np.arange(groups), out_channels // groups)
    indices = own[of_channel].reshape(out_channels * windows, depth * kernel)
    data = np.repeat(weight.reshape(out_channels, depth * kernel), windows, axis=0)
    linear = rows_of(indices, data, prod(value.shape))
    constant = 0.0 if bias is None else np.repeat(bias, windows)
    return value.mapped(linear, (out_channels, *(axis.windows for axis in axes)), constant)


def average(
    value: Expression,
    axes: Sequence[Axis],
    *,
    count_padding: bool = True,
    divisor: int | None = None,
) -> Expression:
    """The averages over windows of the last axes, as torch's average pooling takes them."""
    leading = value.shape[: len(value.shape) - len(axes)]
    patches = window_entries((prod(leading), *value.shape[len(leading) :]), axes)
    counts: np.ndarray = np.ones(1)
    for axis in axes:
        padded = axis.padded_counts if count_padding else (axis.entries >= 0).sum(axis=1)
        counts = np.multiply.outer(counts, padded)
    counts = counts.ravel() if divisor is None else np.full(counts.size, float(divisor))
    weights = np.broadcast_to(1 / counts[None, :, None], patches.shape)
    return averaged(value, patches, weights, (*leading, *(axis.windows for axis in axes)))


def averaged(
    value: Expression, patches: np.ndarray, weights: np.ndarray, shape: Sequence[int]
) -> Expression:
    """Weighted sums of entries, those at −1 left out (…, entries of a sum)."""
    width = patches.shape[-1]
    linear = rows_of(patches.reshape(-1, width), weights.reshape(-1, width), prod(value.shape))
    return value.mapped(linear, shape)


def averaged_over(value: Expression, axis: int, entries: np.ndarray) -> Expression:
    """The average of each window along one axis; −1 stands for no entry (windows, entries)."""
    places = np.moveaxis(np.arange(len(value.constant)).reshape(value.shape), axis, -1)
    with_none = np.concatenate([places, np.full((*places.shape[:-1], 1), -1)], axis=-1)
    patches = np.moveaxis(with_none[..., entries], -2, axis)  # entries of a window stay last
    counts = (patches >= 0).sum(axis=-1, keepdims=True)
    weights = np.broadcast_to(1 / counts, patches.shape)
    return averaged(value, patches, weights, patches.shape[:-1])


def normalised(
    value: Expression,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    mean: np.ndarray,
    variance: np.ndarray,
    epsilon: float,
) -> Expression:
    """Batch normalisation with its running statistics, folded: one factor and shift a channel."""
    factor = 1 / np.sqrt(variance + epsilon)
    if weight is not None:
        factor = factor * weight
    shift = -factor * mean if bias is None else bias - factor * mean
    shape = (-1, *(1,) * (len(value.shape) - 1))
    return value.scaled(factor.reshape(shape), shift.reshape(shape))


def window_entries(shape: Sequence[int], axes: Sequence[Axis]) -> np.ndarray:
    """The entries in each window of the axes behind the first, −1 in the padding.

    Returns:
        (first axis, windows, entries of a window), row-major.
    """
    places = np.arange(prod(shape), dtype=np.int64).reshape(shape)
    for number, axis in enumerate(axes):
        at = 1 + 2 * number  # behind the windows and entries of the axes before it
        padded = np.concatenate([places, np.full_like(np.take(places, [0], at), -1)], axis=at)
        places = np.take(padded, axis.entries, axis=at)
    count = len(axes)
    order = [0, *range(1, 2 * count, 2), *range(2, 2 * count + 1, 2)]
    windows = prod(axis.windows for axis in axes)
    patches: np.ndarray = places.transpose(order).reshape(shape[0], windows, -1)
    return patches


def rows_of(indices: np.ndarray, data: np.ndarray, columns: int) -> scipy.sparse.csr_matrix:
    """Rows with these entries at these columns (rows, entries); −1 stands for none."""
    kept = indices >= 0
    starts = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    shape = (len(indices), columns)
    matrix = scipy.sparse.csr_matrix((data[kept], indices[kept], starts), shape=shape)
    matrix.sum_duplicates()
    return matrix
