"""The relaxation at its tightest: bounds of every state by duality, and optimised slopes."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from idl_cli.certificates.bounds.interval import interval
from idl_cli.certificates.duality import Form, Relaxation
from idl_cli.certificates.problem import Problem
from idl_cli.certificates.rounding import below, up
from idl_cli.certificates.state_box import StateBox, tightened

_ROUNDS: Final = 2
_ASCENT: Final = 20
_BLOCK: Final = 1 << 22  # entries of the multipliers of all states


def dual(problem: Problem) -> Tensor:
    """Margins by ascent in the slopes, on boxes that duality has tightened; see ``Bound``."""
    equation = problem.judged.equation
    if equation.graph.shape is None:  # nothing is known of φ but its Lipschitz constant
        return interval(problem)
    size = max(1, _BLOCK // (equation.states * max(equation.states, equation.inputs)))
    parts = torch.split(torch.arange(len(problem)), size)
    return torch.cat([_margins(problem.select(rows)) for rows in parts])


def _margins(problem: Problem) -> Tensor:
    equation, box = problem.judged.equation, problem.box
    for _ in range(_ROUNDS):
        box = _with_states_bounded(problem, box)
    relaxed = Relaxation.of(equation, problem.region, box)
    form = Form(*problem.differences)
    first = relaxed.multipliers(form)
    margins = relaxed.value(form, first)
    lacking = ~(problem.without_own(margins) > 0)
    if bool(lacking.any()):
        # as many classes of every sample as of the one with the most
        count = int(lacking.sum(1).max())
        worst = problem.without_own(margins).topk(count, largest=False)[1]
        rows = torch.arange(len(worst))[:, None]
        fewer = Form(form.state[rows, worst], form.inputs[rows, worst], form.constant[rows, worst])
        improved = relaxed.improved(fewer, first[rows, worst], _ASCENT)
        margins = margins.scatter(1, worst, improved)
    return problem.without_own(margins)


def _with_states_bounded(problem: Problem, box: StateBox) -> StateBox:
    """Bound the pre-activations whose φ is not linear on their box, by duality both ways."""
    equation = problem.judged.equation
    relaxed = Relaxation.of(equation, problem.region, box)
    bent = relaxed.lower != relaxed.upper
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
        value = relaxed.value(form, relaxed.multipliers(form))
        if equation.product_error is not None:  # rows of A are not exact
            off = up(relaxed.state_size @ equation.product_error.t(), equation.states)
            value = below(value - off.gather(1, chosen))
        bound = sign * value
        better = torch.fmax if sign > 0 else torch.fmin
        known.scatter_(1, chosen, better(bound, known.gather(1, chosen)))
    return tightened(equation, problem.offset, box.within(low, high, equation))
