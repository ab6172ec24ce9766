"""No input of a region leaves a bound: random ones, corners, and those that the bounds point to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor

from idl_cli.certificates.bounds.complete import Complete
from idl_cli.certificates.bounds.dual import Dual
from idl_cli.certificates.bounds.interval import interval
from idl_cli.certificates.bounds.norm import norm
from idl_cli.certificates.bounds.relaxation import relaxation
from idl_cli.certificates.bounds.sensitivity import Sensitivity
from idl_cli.certificates.duality import Form
from idl_cli.certificates.estimate import Estimate
from idl_cli.certificates.problem import Problem
from idl_cli.certificates.region import Norm
from tests.certificates.models import CLASSES, KINDS, problem, random_model, samples, unit

BOUNDS: dict[str, Callable[[Problem], Tensor]] = {
    "norm": norm,
    "sensitivity": Sensitivity(),
    "interval": interval,
    "relaxation": relaxation,
    "dual": Dual(),
    "complete": Complete(branches=16),
}
POINTS = {"dense": 100_000, "low_rank": 100_000}  # of other kinds a fifth


def every_bound(asked: Problem) -> dict[str, Tensor]:
    return {
        name: (Sensitivity() if name == "sensitivity" else bound)(asked)
        for name, bound in BOUNDS.items()
    }


def perturbed(
    values: Tensor, epsilon: float, norm: Norm, valid: tuple[float, float], points: int
) -> Tensor:
    """Values (k, m, p): uniform in the region, and on its boundary."""
    generator = torch.Generator().manual_seed(2)
    shape = (points // len(values), *values.shape)
    step = 2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1
    step[::2] = step[::2].sign()
    if norm == "l2":
        step = step / torch.linalg.vector_norm(step, dim=-1, keepdim=True)
    moved = values + epsilon * step
    return moved.clamp(*valid)


def margins_at(asked: Problem, inputs: Tensor) -> Tensor:
    """f_i − f_j (k, m, q) at inputs (k, m, p), by the model in float64."""
    with torch.no_grad():
        outputs = asked.judged.equation.model(inputs.flatten(0, 1)).view(*inputs.shape[:2], -1)
    own = outputs.gather(2, asked.classes.expand(len(inputs), -1)[:, :, None])
    return own - outputs


@pytest.mark.parametrize(
    ("kind", "norm_name"), [*((kind, "linf") for kind in KINDS), ("dense", "l2"), ("tanh", "l2")]
)
def test_no_perturbation_leaves_a_bound(kind: str, norm_name: Norm) -> None:
    values, epsilon, valid = samples(4), 0.05, (0.0, 1.0)
    asked = problem(random_model(**KINDS[kind]), values, epsilon, norm=norm_name, valid=valid)
    inputs = unit().inputs(perturbed(values, epsilon, norm_name, valid, POINTS.get(kind, 20_000)))
    box = asked.box
    estimate = Estimate.of(asked.judged.equation, asked.region, box.pre_low, box.pre_high)
    form = Form(*asked.differences)
    rows = estimate.multipliers(form.state) @ asked.judged.equation.B + form.inputs
    worst = asked.region.least(rows).movedim(1, 0)
    low, high = asked.region.centre - asked.region.radius, asked.region.centre + asked.region.radius
    found = margins_at(asked, torch.cat([inputs, worst.clamp(low, high)])).amin(0)
    own = torch.nn.functional.one_hot(asked.classes, CLASSES).bool()
    # the solve in float64 stops at 1e-12 of the states
    rounding = 1e-9 * (1 + found.abs())
    for name, bound in every_bound(asked).items():
        assert bool((bound <= found + rounding)[~own].all()), name
        assert bool(bound[own].isposinf().all())
        assert bool(bound[~own].isfinite().all()), name


@pytest.mark.parametrize("kind", KINDS)
def test_each_bound_is_tighter_than_the_one_before(kind: str) -> None:
    asked = problem(random_model(**KINDS[kind]), samples(), 0.02)
    least = {name: bound.amin(1) for name, bound in every_bound(asked).items()}
    slack = 1e-6 * (1 + least["norm"].abs())  # boxes start a little wider than they need to
    assert bool((least["sensitivity"] >= least["norm"] - slack).all())
    assert bool((least["interval"] >= least["sensitivity"] - slack).all())
    assert bool((least["dual"] >= least["interval"] - slack).all())
    assert float((least["dual"] - least["relaxation"]).mean()) >= 0
    assert bool((least["complete"] >= least["dual"]).all())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["dense", "low_rank", "triangular"])
def test_bounds_are_never_above_the_exact_optimum(kind: str, seed: int) -> None:
    asked = problem(random_model(seed, **KINDS[kind]), samples(2, seed), 0.15)
    bounds, gaps = every_bound(asked), []
    for sample in range(2):
        for other in range(CLASSES):
            if other == int(asked.classes[sample]):
                continue
            exact = exact_margin(asked, sample, other)
            # of the solver's feasibility tolerance and gap
            rounding = 1e-5 * (1 + abs(exact))
            for name, bound in bounds.items():
                assert float(bound[sample, other]) <= exact + rounding, name
            gaps.append(
                [exact - float(bounds[name][sample, other]) for name in ("interval", "dual")]
            )
    intervals, duals = np.mean(gaps, axis=0)
    assert duals < 0.6 * intervals


def exact_margin(asked: Problem, sample: int, other: int) -> float:
    """The least f_i − f_j over the region, by mixed-integer programming.

    Variables are u, x and whether each state is active; its equation is
    x ≥ z, x ≥ 0, x ≤ z − z̲(1 − active), x ≤ z̄ active with z = Ax + Bu + b.
    """
    equation, box = asked.judged.equation, asked.box
    A, B, b = (each.numpy() for each in (equation.A, equation.B, equation.state_bias))
    low, high = (each[sample].numpy() for each in (box.pre_low, box.pre_high))
    n, p = B.shape
    states, zeros = np.eye(n), np.zeros((n, p))
    constraints = [
        LinearConstraint(np.hstack([-B, states - A, 0 * states]), b, np.inf),
        LinearConstraint(np.hstack([-B, states - A, -np.diag(low)]), -np.inf, b - low),
        LinearConstraint(np.hstack([zeros, states, -np.diag(high)]), -np.inf, 0),
    ]
    centre, radius = (each[sample].numpy() for each in (asked.region.centre, asked.region.radius))
    lower = np.concatenate([centre - radius, np.zeros(2 * n)])
    upper = np.concatenate([centre + radius, np.full(n, np.inf), np.ones(n)])
    C, D, constant = (each[sample, other].numpy() for each in asked.differences)
    answer = milp(
        np.concatenate([D, C, np.zeros(n)]),
        constraints=constraints,
        bounds=Bounds(lower, upper),
        integrality=np.concatenate([np.zeros(n + p), np.ones(n)]),
    )
    assert answer.success
    return float(answer.fun + constant)


def test_at_zero_every_bound_is_the_margin() -> None:
    values = samples()
    for kind in KINDS.values():
        asked = problem(random_model(**kind), values, 0.0)
        margins = margins_at(asked, unit().inputs(values)[None])[0]
        own = torch.nn.functional.one_hot(asked.classes, CLASSES).bool()
        for name, bound in every_bound(asked).items():
            # the norm bound multiplies roundings of the input by all norms on the way
            difference = (margins - bound)[~own].abs()
            assert float((difference / (1 + margins.abs()[~own])).max()) < 1e-5, name


def test_a_huge_region_certifies_nothing_and_stays_finite() -> None:
    asked = problem(random_model(), samples(), 1e12)
    for name, bound in every_bound(asked).items():
        assert bool((bound.amin(1) < 0).all()), name
    overflowing = problem(random_model(), samples(), 1e300)
    for name, bound in every_bound(overflowing).items():
        assert not bool((bound.amin(1) > 0).any()), name


def test_the_valid_range_ends_what_is_asked() -> None:
    values = samples()
    model = random_model()
    inside, everything = (
        problem(model, values, epsilon, valid=(0.0, 1.0)) for epsilon in (1.0, 1e6)
    )
    for name, bound in every_bound(inside).items():
        assert torch.equal(bound, every_bound(everything)[name]), name


def test_inputs_that_nothing_reads_cost_nothing() -> None:
    model = random_model()
    with torch.no_grad():
        model.B[:, 1:] = 0
        model.D[:, 1:] = 0
    alone, data = problem(model, samples(), 0.01), unit()
    free = data.region(samples(), torch.full((6,), 0.01, dtype=torch.float64), "linf")
    free.radius[:, 1:] = 1e9
    asked = Problem(alone.judged, free, alone.classes)
    for name in ("sensitivity", "interval", "relaxation", "dual"):
        first, second = (every_bound(each)[name].amin(1) for each in (alone, asked))
        assert torch.allclose(first, second, rtol=1e-6), name


def test_a_contraction_near_one_is_not_stopped_early() -> None:
    """One state fed by itself: x = κx + u, whose reach is ε / (1 − κ) whatever the steps taken."""
    kappa = 1 - 1e-6
    model = random_model(no_D=True, kappa=kappa)
    with torch.no_grad():
        model.A.zero_()
        model.A[0, 0] = kappa
        model.B.zero_()
        model.B[0, 0] = 0.5
        model.state_bias.fill_(0)
        model.state_bias[0] = 1e-3
        model.C.zero_()
        model.C[0, 0] = 1
        model.output_bias.zero_()
    asked = problem(model, torch.full((1, 5), 0.0, dtype=torch.float64), 1e-4)
    stored = float(model.A.detach()[0, 0])
    for name in ("interval", "relaxation", "dual"):
        bound = every_bound(asked)[name][0]
        least = (0.5 * (0 - 1e-4 + 0.2) / 0.5 + 1e-3) / (1 - stored)
        assert float(bound[1]) <= least, name
        assert float(bound[1]) == pytest.approx(least, rel=1e-3), name


def test_what_is_known_of_some_samples_is_kept() -> None:
    asked = problem(random_model(), samples(), 0.03)
    before = every_bound(asked)
    chosen = torch.tensor([True, False, True, True, False, False])
    part = asked.select(chosen)
    assert torch.equal(part.box.low, asked.box.low[chosen])
    for name in ("norm", "sensitivity", "interval"):  # relaxations settle as a batch
        bound = every_bound(part)[name]
        assert torch.allclose(bound, before[name][chosen], rtol=1e-12), name
