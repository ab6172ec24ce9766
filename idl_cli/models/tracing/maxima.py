"""Maxima and piecewise linear activations by differences: max(a, b) = b + relu(a − b), exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from idl_cli.errors import UnsupportedModelError
from idl_cli.models.tracing.expressions import Expression, States, stacked
from idl_cli.models.tracing.windows import Axis


def maximum(states: States, left: Expression, right: Expression) -> Expression:
    """The larger of two values, broadcast to each other."""
    return right.plus(states.activated(left.plus(right, -1.0), "relu"))


def maximum_over(states: States, value: Expression, axis: int, entries: np.ndarray) -> Expression:
    """The largest entry of each window along one axis: a tournament of pairs.

    Args:
        states: to which log₂(entries of a window) blocks are added.
        value: of a sample.
        axis: of ``value``.
        entries: of each window, −1 for none (windows, entries of a window).
    """
    places = np.moveaxis(np.arange(len(value.constant)).reshape(value.shape), axis, -1)
    with_none = np.concatenate([places, np.full((*places.shape[:-1], 1), -1)], axis=-1)
    rivals = with_none[..., entries]
    shape = rivals.shape[:-1]
    rivals = rivals.reshape(-1, entries.shape[1])
    if (rivals < 0).all(axis=1).any():
        raise UnsupportedModelError("a window of maximum pooling lies in the padding altogether")
    while rivals.shape[1] > 1:
        value, rivals = _round(states, value, rivals)
    return value.gathered(np.moveaxis(rivals[:, 0].reshape(shape), -1, axis))


def _round(states: States, value: Expression, rivals: np.ndarray) -> tuple[Expression, np.ndarray]:
    """Let neighbours meet, each pair once; the winners are entries of the expression returned."""
    count = rivals.shape[1] // 2
    left, right = rivals[:, : 2 * count : 2], rivals[:, 1 : 2 * count : 2]
    winners = np.maximum(left, right)  # where one is missing, the other
    meet = (left >= 0) & (right >= 0) & (left != right)
    pairs, number = np.unique(
        np.stack([left[meet], right[meet]], axis=1), axis=0, return_inverse=True
    )
    if len(pairs):
        found = maximum(states, value.gathered(pairs[:, 0]), value.gathered(pairs[:, 1]))
        winners[meet] = len(value.constant) + number.ravel()
        value = stacked([value, found])
    return value, np.concatenate([winners, rivals[:, 2 * count :]], axis=1)


def pooled(states: States, value: Expression, axes: Sequence[Axis]) -> Expression:
    """Maximum pooling over the last axes, one axis after the other."""
    for number, axis in enumerate(axes):
        value = maximum_over(states, value, len(value.shape) - len(axes) + number, axis.entries)
    return value


def clipped(states: States, value: Expression, low: float | None, high: float | None) -> Expression:
    """min(max(value, low), high)."""
    if low is not None:
        # low + relu(value − low)
        above = states.activated(value.scaled(np.ones(()), -low), "relu")
        value = above.scaled(np.ones(()), low)
    if high is not None:
        # high − relu(high − value)
        below = states.activated(value.scaled(-np.ones(()), high), "relu")
        value = below.scaled(-np.ones(()), high)
    return value


def leaky(states: States, value: Expression, slopes: np.ndarray) -> Expression:
    """Slope times value where it is negative: slope · value + (1 − slope) relu(value)."""
    return value.scaled(slopes).plus(states.activated(value, "relu").scaled(1 - slopes))
