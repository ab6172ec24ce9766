"""The relaxation at its tightest: bounds of every state by duality, and optimised slopes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from idl_cli.certificates.ascent import Start, improved
from idl_cli.certificates.bounds.interval import interval
from idl_cli.certificates.duality import Form, Relaxation
from idl_cli.certificates.estimate import Estimate
from idl_cli.certificates.problem import Problem
from idl_cli.certificates.rounding import below, up
from idl_cli.certificates.state_box import StateBox, tightened

_ASCENT: Final = 20
_SETTLED: Final = 1e-2  # of the multipliers of states, of which more digits give little
_BLOCK: Final = 1 << 22  # entries of the multipliers of all states


def dual(problem: Problem) -> Tensor:
    """Margins by ascent in the slopes, on boxes that duality has tightened; see ``Bound``."""
    equation = problem.judged.equation
    if equation.graph.shape is None:  # nothing is known of φ but its Lipschitz constant
        return interval(problem)
    return torch.cat([refined(part)[0] for part in portions(problem)])


def refined(problem: Problem) -> tuple[Tensor, StateBox]:
    """Margins (m, q), and the boxes they are of: a second round where the first leaves one open."""
    box = _with_states_bounded(problem, problem.box)
    margins = _margins(problem, box, ascent=0)
    lacking = ~(margins > 0).all(1)
    if bool(lacking.any()):
        part = problem.select(lacking)
        second = _with_states_bounded(part, box.select(lacking))
        margins[lacking] = torch.fmax(margins[lacking], _margins(part, second))
        box = box.replaced(lacking, second)
    return margins, box


def portions(problem: Problem) -> Iterator[Problem]:
    """The samples in portions, so that the multipliers of all states take bounded memory."""
    equation = problem.judged.equation
    size = max(1, _BLOCK // (equation.states * max(equation.states, equation.inputs)))
    for rows in torch.split(torch.arange(len(problem)), size):
        yield problem.select(rows)


def _margins(problem: Problem, box: StateBox, ascent: int = _ASCENT) -> Tensor:
    """Margins (m, q) by so many steps of ascent, on proven boxes; +inf where j = i."""
    equation, region, form = problem.judged.equation, problem.region, Form(*problem.differences)
    relaxed = Relaxation.of(equation, region, box)
    estimate = Estimate.of(equation, region, box.pre_low, box.pre_high)
    start = Start.of(estimate, form)
    margins = problem.without_own(relaxed.value(form, start.multipliers.double()))
    lacking = ~(margins > 0)
    if ascent and bool(lacking.any()):
        # as many classes of every sample as of the one with the most
        worst = margins.topk(int(lacking.sum(1).max()), largest=False)[1]
        rows = torch.arange(len(worst))[:, None]
        fewer, at = form.select((rows, worst)), start.select((rows, worst))
        multipliers, _ = improved(estimate, fewer, at, ascent)
        better = torch.fmax(relaxed.value(fewer, multipliers), margins[rows, worst])
        margins = margins.scatter(1, worst, better)
    return margins


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
    for sign, known in ((1, low), (-1, high)):
        form = Form(
            sign * equation.A[chosen], sign * equation.B[chosen], sign * equation.state_bias[chosen]
        )
        value = relaxed.value(form, estimate.multipliers(form, _SETTLED))
        if equation.product_error is not None:  # rows of A are not exact
            off = up(relaxed.state_size @ equation.product_error.t(), equation.states)
            value = below(value - off.gather(1, chosen))
        bound = sign * value
        better = torch.fmax if sign > 0 else torch.fmin
        known.scatter_(1, chosen, better(bound, known.gather(1, chosen)))
    return tightened(equation, problem.offset, box.within(low, high, equation))
