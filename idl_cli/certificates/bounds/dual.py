"""The relaxation at its tightest: bounds of every state by duality, and optimised slopes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import torch
from torch import Tensor

from idl_cli.certificates.ascent import Start, improved
from idl_cli.certificates.bounds.interval import interval
from idl_cli.certificates.duality import Form, Relaxation
from idl_cli.certificates.estimate import Estimate
from idl_cli.certificates.problem import Problem
from idl_cli.certificates.prospect import ALL, Prospect, pilots
from idl_cli.certificates.state_box import StateBox, tightened

_ASCENT: Final = 20
_SETTLED: Final = 1e-2  # of the multipliers of states, of which more digits give little
_PILOTS: Final = 16  # of a batch
_BLOCK: Final = 1 << 22  # entries of the multipliers of all states


class Dual:
    """Margins by ascent in the slopes, on boxes that duality has tightened; see ``Bound``.

    Args:
        persistent: go to the end with every sample; False: with some, and with those of the others
            that may be decided by as much as the rest of the way won of these.
    """

    def __init__(self, *, persistent: bool = True) -> None:
        self._persistent = persistent

    def __call__(self, problem: Problem) -> Tensor:
        """Margins (m, q); see ``Bound``."""
        if problem.judged.equation.graph.shape is None:  # φ is known by its Lipschitz constant
            return interval(problem)
        first = pilots(len(problem), len(problem) if self._persistent else _PILOTS)
        asked = [refined(part) for part in portions(problem.select(first))]
        reached = torch.cat([each.margins for each in asked])
        if bool(first.all()):
            return reached
        before = torch.cat([each.first for each in asked])
        prospect = Prospect.of(before, reached, problem.centre_margins[first])
        others = [refined(part, prospect) for part in portions(problem.select(~first))]
        margins = torch.empty_like(problem.centre_margins)
        margins[first] = reached
        margins[~first] = torch.cat([each.margins for each in others])
        return margins


class Refined(NamedTuple):
    """Margins of m samples, and how they came about.

    Attributes:
        margins: (m, q).
        box: that they are of.
        first: margins after a first round of boxes (m, q).
    """

    margins: Tensor
    box: StateBox
    first: Tensor


def refined(problem: Problem, prospect: Prospect = ALL) -> Refined:
    """Bound all states, and a second time where this leaves a sample open; then ascend.

    Args:
        problem: the samples.
        prospect: of the second round and the ascent.
    """
    box = _with_states_bounded(problem, problem.box)
    first = _margins(problem, box)
    margins = first.clone()
    lacking = ~(first > 0).all(1) & prospect.worthwhile(first, problem.centre_margins)
    if bool(lacking.any()):
        part = problem.select(lacking)
        second = _with_states_bounded(part, box.select(lacking))
        margins[lacking] = _ascended(
            part, second, torch.fmax(first[lacking], _margins(part, second))
        )
        box = box.replaced(lacking, second)
    return Refined(margins, box, first)


def portions(problem: Problem) -> Iterator[Problem]:
    """The samples in portions, so that the multipliers of all states take bounded memory."""
    equation = problem.judged.equation
    size = max(1, _BLOCK // (equation.states * max(equation.states, equation.inputs)))
    for rows in torch.split(torch.arange(len(problem)), size):
        yield problem.select(rows)


def _margins(problem: Problem, box: StateBox) -> Tensor:
    """Margins (m, q) of the linear relaxation on proven boxes; +inf where j = i."""
    equation, region, form = problem.judged.equation, problem.region, Form(*problem.differences)
    estimate = Estimate.of(equation, region, box.pre_low, box.pre_high)
    value = Relaxation.of(equation, region, box).value(form, estimate.multipliers(form.state))
    return problem.without_own(value)


def _ascended(problem: Problem, box: StateBox, margins: Tensor) -> Tensor:
    """Margins (m, q), those raised whose sample is open."""
    lacking = ~(margins > 0)
    left = lacking.any(1)
    if not bool(left.any()):
        return margins
    part, box, known = problem.select(left), box.select(left), margins[left]
    equation, region = part.judged.equation, part.region
    # as many classes of every sample as of the one with the most
    worst = known.topk(int(lacking.sum(1).max()), largest=False)[1]
    form = Form(*part.differences).select((torch.arange(len(worst))[:, None], worst))
    estimate = Estimate.of(equation, region, box.pre_low, box.pre_high)
    multipliers, _ = improved(estimate, form, Start.of(estimate, form), _ASCENT)
    value = Relaxation.of(equation, region, box).value(form, multipliers)
    raised = margins.clone()
    raised[left] = known.scatter(1, worst, torch.fmax(value, known.gather(1, worst)))
    return raised


def _with_states_bounded(problem: Problem, box: StateBox) -> StateBox:
    """Bound the pre-activations whose φ is not linear on their box, by duality both ways."""
    equation = problem.judged.equation
    relaxed = Relaxation.of(equation, problem.region, box)
    estimate = Estimate.of(equation, problem.region, box.pre_low, box.pre_high)
    bent = estimate.lower != estimate.upper
    count = int(bent.sum(1).max())
    if count == 0:
        return box
    loss = (bent * (box.pre_high - box.pre_low)).nan_to_num()
    chosen = loss.topk(count, dim=1)[1]
    low, high = box.pre_low.clone(), box.pre_high.clone()
    rows = equation.A[chosen]
    for sign, known in ((1, low), (-1, high)):
        multipliers = estimate.multipliers(sign * rows, _SETTLED)
        bound = sign * relaxed.pre_activations(chosen, sign, multipliers)
        better = torch.fmax if sign > 0 else torch.fmin
        known.scatter_(1, chosen, better(bound, known.gather(1, chosen)))
    return tightened(equation, problem.offset, box.within(low, high, equation))
