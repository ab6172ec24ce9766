"""Where to cut a part in two: at a kink of φ, or in the middle where φ is curved."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from idl_cli.certificates.duality import Form
from idl_cli.certificates.equation import Equation
from idl_cli.certificates.estimate import Estimate
from idl_cli.certificates.parts import Parts
from idl_cli.certificates.region import Region
from idl_cli.certificates.shapes import Shape

CANDIDATES: Final = 8
"""States of a part that are tried."""

_THINNEST: Final = 1e-9
_BETTER_HALF: Final = 0.1  # its weight beside the worse one, which decides


def bent(shape: Shape, low: Tensor, high: Tensor) -> Tensor:
    """Where φ is not affine between z̲ and z̄, of any shape."""
    if shape.curvature:
        return high - low > _THINNEST
    inside = torch.zeros_like(low, dtype=torch.bool)
    for kink in shape.kinks:
        inside |= (low < kink) & (kink < high)
    return inside


def places(shape: Shape, low: Tensor, high: Tensor) -> Tensor:
    """Where each interval would be cut: at the kink that is nearest to its middle."""
    middle = (low + high) / 2
    place, nearest = middle, torch.full_like(middle, torch.inf)
    for kink in () if shape.curvature else shape.kinks:
        off = (middle - kink).abs().where((low < kink) & (kink < high), torch.inf)
        place, nearest = torch.where(off < nearest, kink, place), torch.minimum(off, nearest)
    return place


def choice(equation: Equation, region: Region, form: Form, parts: Parts) -> tuple[Tensor, Tensor]:
    """State and place (k,) of the cut after which the worse half looks best.

    Of the states that the relaxation loses most on, a few are tried with the multipliers at hand
    (as "filtered smart branching", De Palma et al., arXiv 2104.06718).

    Args:
        equation: the model.
        region: of the inputs of every part.
        form: one of every part.
        parts: not affine (k,).
    """
    shape = equation.graph.shape
    assert shape is not None
    low, high, form = parts.pre_low, parts.pre_high, form.single()
    whole = Estimate.of(equation, region, low, high)
    line = whole.values[0] + whole.upper * (whole.nodes - whole.nodes[0])
    loss = (whole.values - line).abs().amax(0) * parts.gradient.abs()
    loss = loss.where(bent(shape, low, high), -1.0)
    count = min(CANDIDATES, loss.shape[1])
    lost, tried = loss.topk(count, dim=1)
    place = places(shape, low, high).gather(1, tried)
    index, state = parts.rows.repeat_interleave(count), tried.flatten()
    every, forms, regions = parts.select(index), form.select(index), region.select(index)
    scores = []
    for ends in every.halves(state, place.flatten()):
        half = Estimate.of(equation, regions, *ends)
        slopes = every.slopes.clone()
        slopes[every.rows, state] = half.lower[every.rows, state]
        start = every.start.with_slopes(slopes[:, None]).settled(half, forms)
        scores.append(half.value(forms, start.multipliers)[0].view(-1, count))
    score = torch.minimum(*scores) + _BETTER_HALF * torch.maximum(*scores)
    best = score.nan_to_num(-torch.inf).where(lost >= 0, -torch.inf).argmax(1, keepdim=True)
    return tried.gather(1, best)[:, 0], place.gather(1, best)[:, 0]
