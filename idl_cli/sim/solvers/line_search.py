"""Exact minimum of a quadratic plus weighted l1 norm along a line."""

from __future__ import annotations

import torch
from torch import Tensor


def line_minimum(
    position: Tensor, direction: Tensor, slope: float, curvature: float, kink: Tensor
) -> Tensor:
    """Minimise ``φ(t) = slope·t + ½ curvature·t² + Σ 2 kink_j |d_j| max(t − t_j, 0)`` over [0, 1].

    The t_j are where a coordinate changes sign: there the slope of kink_j |w_j| jumps. φ is convex
    and piecewise quadratic, so that its breakpoints, sorted, are searched at once.

    Args:
        position: w (n,).
        direction: d (n,).
        slope: right derivative at 0 of the whole function along d, < 0.
        curvature: dᵀGd >= 0.
        kink: weight of |w_j| (n,).

    Returns:
        The minimiser w + t d, with an exact zero where it lies on a breakpoint.
    """
    crossing = (position * direction < 0).nonzero().squeeze(1)
    times, order = (-position[crossing] / direction[crossing]).sort()
    crossing = crossing[order]
    inside = times < 1
    times, crossing = times[inside], crossing[inside]
    jumps = (2 * kink[crossing] * direction[crossing].abs()).cumsum(dim=0)
    after = slope + times * curvature + jumps
    index = int((after < 0).sum())  # `after` increases: the first breakpoint not before the minimum
    passed = float(jumps[index - 1]) if index else 0.0
    free = -(slope + passed) / curvature if curvature > 0 else float("inf")
    if index < len(times) and float(times[index]) <= free:
        minimiser = torch.add(position, direction, alpha=float(times[index]))
        minimiser[crossing[index]] = 0.0
        return minimiser
    return torch.add(position, direction, alpha=min(free, 1.0))


def first_crossing(position: Tensor, direction: Tensor) -> Tensor | None:
    """The point on the way from w to w + d where a coordinate first changes sign, or None.

    The coordinate is exactly zero there.
    """
    times = torch.where(position * direction < 0, -position / direction, torch.inf)
    time, index = times.min(dim=0)
    if not bool(time < 1):
        return None
    crossed = position + time * direction
    crossed[index] = 0.0
    return crossed
