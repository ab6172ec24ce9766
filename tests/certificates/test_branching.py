"""Branch and bound decides what mixed-integer programming decides, and nothing more."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from idl_cli.certificates import leaf
from idl_cli.certificates.bounds.complete import Complete
from idl_cli.certificates.bounds.dual import Dual
from idl_cli.certificates.branching import Found
from idl_cli.certificates.duality import Form, Relaxation
from idl_cli.certificates.problem import Judged, Problem
from idl_cli.certificates.region import Norm
from idl_cli.certificates.state_box import StateBox
from tests.certificates.models import CLASSES, KINDS, judged, problem, random_model, samples, unit
from tests.certificates.test_bounds import exact_margin


def shifted(asked: Problem, other: int, margin: float) -> Problem:
    """The same question of one class, its output raised by so much, and no other near it."""
    equation, own = asked.judged.equation, int(asked.classes[0])
    bias = torch.full_like(equation.output_bias, -100.0)
    bias[own], bias[other] = equation.output_bias[own], equation.output_bias[other] + margin
    model = deepcopy(equation.model)
    with torch.no_grad():
        model.output_bias.copy_(bias)
    moved = Judged(replace(equation, output_bias=bias, model=model), asked.judged.proof)
    return Problem(moved, asked.region, asked.classes)


@pytest.mark.parametrize("kind", ["dense", "low_rank", "triangular"])
def test_it_comes_to_the_exact_optimum(kind: str) -> None:
    """Margins less the optimum are certified if a hair is added, and falsified if one is taken."""
    asked = problem(random_model(1, **KINDS[kind]), samples(1, 1), 0.15)
    used = 0
    others = [other for other in range(CLASSES) if other != int(asked.classes[0])]
    for other in others if kind == "dense" else others[-1:]:
        exact = exact_margin(asked, 0, other)
        hair = 1e-5 * (1 + abs(exact))  # the feasibility tolerance and gap of the other solver
        below, above = (
            Complete().search(shifted(asked, other, exact + off)) for off in (-hair, hair)
        )
        assert float(below.lower[0, other]) > 0
        assert not float(below.least[0]) < 0
        assert float(above.least[0]) < 0
        assert float(above.lower[0, other]) <= float(above.least[0]) + 1e-9
        used += int(below.branches[0])
    assert used > 4  # bounds alone do not decide


def margins_at(asked: Problem, found: Found) -> Tensor:
    with torch.no_grad():
        outputs = asked.judged.equation.model(found.inputs)
    own = asked.classes[:, None]
    others = outputs.scatter(1, own, -torch.inf).amax(1)
    return outputs.gather(1, own)[:, 0] - others


@pytest.mark.parametrize(("kind", "norm"), [("tanh", "linf"), ("abs", "linf"), ("dense", "l2")])
def test_more_branches_only_raise_the_bound(kind: str, norm: Norm) -> None:
    asked = problem(random_model(1, **KINDS[kind]), samples(3), 0.3, norm=norm)
    none, few, more = (
        Dual()(asked),
        *(Complete(branches=count).search(asked) for count in (4, 60)),
    )
    assert bool((few.lower >= none).all())
    assert bool((more.lower >= few.lower).all())
    assert float((more.lower - none).nan_to_num().amax()) > 0
    assert bool((more.branches >= few.branches).all())
    tried = ~more.least.isnan()
    assert bool(tried.any())
    assert torch.allclose(more.least[tried], margins_at(asked, more)[tried], rtol=1e-6)
    assert bool((more.lower.amin(1) <= more.least + 1e-9)[tried].all())
    region = asked.region
    assert bool(((more.inputs - region.centre).abs() <= region.radius * (1 + 1e-9)).all())


def test_limits_end_the_search() -> None:
    asked = problem(random_model(1), samples(2, 1), 0.3)
    for limits in ({"branches": 6}, {"seconds": 1e-9}):
        found = Complete(**limits).search(asked)  # type: ignore[arg-type]
        # what is cut together is counted together
        assert bool((found.branches <= 6 + 64).all())
        assert bool((found.lower.amin(1) <= found.least + 1e-9).all())


def test_a_box_that_holds_no_state_is_excluded() -> None:
    """Two states of opposite inputs, both said to be positive: each can be, not both."""
    model = random_model(no_D=True)
    with torch.no_grad():
        model.A.zero_()
        model.state_bias.fill_(-1.0)
        model.B.zero_()
        model.B[0, 0], model.B[1, 0] = 1.0, -1.0
    data = unit()
    values = data.mean[None].clone()
    radii = torch.tensor([0.1], dtype=torch.float64)
    region, equation = data.region(values, radii, "linf"), judged(model).equation
    low, high = torch.full((1, 12), -1.0).double(), torch.full((1, 12), -1.0).double()
    low[0, :2], high[0, :2] = -0.99, -0.8
    box = StateBox(low.relu(), high.relu(), low, high)
    form = Form(equation.C[:1][None], equation.D[:1][None], equation.output_bias[:1][None])
    relaxed = Relaxation.of(equation, region, box)
    multipliers = torch.zeros(12, dtype=torch.float64)
    assert float(relaxed.value(form, multipliers[None, None])) < 3
    bound, at = leaf.solved(relaxed, form, multipliers)
    assert at is None
    assert float(bound) > 100
