"""Verdicts, radii and Lipschitz bounds of whole batches."""

from __future__ import annotations

import pytest
import torch

from idl_cli.certificates.bounds.norm import norm
from idl_cli.certificates.certification import METHODS, Certifier
from idl_cli.certificates.lipschitz import LipschitzBounds, spectral_norm_bound
from idl_cli.certificates.problem import Problem
from tests.certificates.models import INPUTS, judged, random_model, samples, unit


@pytest.fixture(scope="module")
def certifier() -> Certifier:
    return Certifier(judged(random_model()), unit(valid=(0.0, 1.0)))


@pytest.fixture(scope="module")
def classes(certifier: Certifier) -> torch.Tensor:
    with torch.no_grad():
        predicted: torch.Tensor = certifier.judged.equation.model(
            certifier.unit.inputs(samples(20))
        ).argmax(1)
    return predicted


def test_auto_takes_the_cheapest_bound_that_decides(
    certifier: Certifier, classes: torch.Tensor
) -> None:
    values = samples(20)
    for epsilon in (1e-4, 3e-3, 0.02):
        radii = torch.full((20,), epsilon, dtype=torch.float64)
        auto = certifier.verdicts(values, classes, radii)
        certified = torch.zeros(20, dtype=torch.bool)
        for place, name in enumerate(METHODS[:-1]):
            alone = Certifier(certifier.judged, certifier.unit, method=name)
            mine = alone.verdicts(values, classes, radii).certified
            assert torch.equal(auto.decided_by == place, mine & ~certified)
            certified |= mine
        assert torch.equal(auto.certified, certified)
        assert bool((auto.margin[auto.certified] > 0).all())


def test_complete_decides_what_the_cheapest_bounds_leave_open() -> None:
    values, radii = samples(20), torch.full((20,), 0.2, dtype=torch.float64)
    of_model, data = judged(random_model(1)), unit()
    with torch.no_grad():
        classes = of_model.equation.model(data.inputs(values)).argmax(1)
    before = Certifier(of_model, data).verdicts(values, classes, radii)
    assert 0 < int(before.certified.sum()) < 20
    search = Certifier(of_model, data, method="complete")
    found = search.verdicts(values, classes, radii)
    known = before.certified
    assert torch.equal(found.decided_by[known], before.decided_by[known])
    assert bool((found.certified ^ found.broken).all())
    added = found.certified & ~known
    assert int(added.sum()) > 0
    assert bool((found.decided_by[added] == METHODS.index("complete")).all())
    assert bool((found.margin <= found.reached + 1e-9)[~known].all())
    assert bool((found.reached[found.broken] < 0).all())
    lost = search.verdicts(values, classes, radii, ~known)
    assert torch.equal(lost.certified, known)
    assert bool(lost.reached.isnan().all())
    assert torch.equal(search.verdicts(values, classes, radii, branching=False).certified, known)


def test_a_wrong_class_is_never_certified(certifier: Certifier, classes: torch.Tensor) -> None:
    wrong = (classes + 1) % 4
    found = certifier.verdicts(samples(20), wrong, torch.zeros(20, dtype=torch.float64))
    assert not bool(found.certified.any())


@pytest.mark.parametrize("method", METHODS[:-1])
def test_radii_are_certified_and_a_little_more_is_not(
    certifier: Certifier, classes: torch.Tensor, method: str
) -> None:
    alone = Certifier(certifier.judged, unit(), method=method)
    values = samples(20)
    closed = alone.linear_radii("norm", values, classes)
    assert bool((closed > 0).all())
    least = alone.linear_radii("sensitivity", values, classes) if method != "norm" else closed
    assert bool((least >= closed * (1 - 1e-6)).all())
    found = alone.radii(values, classes, least, torch.full_like(least, torch.inf), 12)
    assert bool((found >= least).all())
    # The multipliers of dual are searched in float32, for as long as the slowest of the batch: what
    # was proven of a sample among the last steps' need not be found again among all.
    again = found * (1 - 1e-3) if method == "dual" else found
    assert bool(alone.verdicts(values, classes, again).certified.all())
    # 12 halvings of a factor of two, in logarithms
    further = alone.verdicts(values, classes, found * 1.001).certified
    assert int(further.sum()) <= (0 if method in ("norm", "sensitivity", "interval") else 2)


def test_the_norm_radius_is_that_of_its_formula() -> None:
    """‖C_i − C_j‖₁ ‖B‖∞ / (1 − ‖A‖∞) + ‖D_i − D_j‖₁."""
    model = random_model()
    of_model, values = judged(model), samples(5)
    equation = of_model.equation
    data = unit()
    data = type(data)(data.mean, torch.ones(INPUTS, dtype=torch.float64))
    with torch.no_grad():
        outputs = equation.model(data.inputs(values))
    classes = outputs.argmax(1)
    radii = torch.full((5,), 0.01, dtype=torch.float64)
    bound = norm(Problem(of_model, data.region(values, radii, "linf"), classes))
    contraction = 1 - float(equation.A.abs().sum(1).max())
    reach = float(equation.B.abs().sum(1).max()) / contraction
    gain = (equation.C[classes][:, None] - equation.C).abs().sum(2) * reach
    gain = gain + (equation.D[classes][:, None] - equation.D).abs().sum(2)
    expected = outputs.gather(1, classes[:, None]) - outputs - 0.01 * gain
    other = ~torch.nn.functional.one_hot(classes, 4).bool()
    assert torch.allclose(bound[other], expected[other], rtol=1e-9)
    assert bool((bound <= expected + 1e-9)[other].all())


def test_lipschitz_bounds_hold_and_are_those_of_the_sensitivity_matrix() -> None:
    of_model, data = judged(random_model()), unit()
    equation = of_model.equation
    found = LipschitzBounds.of(of_model, data.deviation)
    identity = torch.eye(equation.states, dtype=torch.float64)
    inner = torch.linalg.inv(identity - equation.A.abs()) @ equation.B.abs()
    S = (equation.C.abs() @ inner + equation.D.abs()) / data.deviation
    assert torch.allclose(found.sensitivity, S, rtol=1e-6)
    assert bool((found.sensitivity >= S * (1 - 1e-12)).all())
    assert found.linf == pytest.approx(float(S.sum(1).max()), rel=1e-6)
    exact = float(torch.linalg.matrix_norm(S, 2))
    assert exact * (1 - 1e-12) <= found.l2 <= exact * 1.001
    assert found.margin_linf is not None
    assert found.margin_linf <= 2 * found.linf
    values, others = samples(2000, 3), samples(2000, 4)
    with torch.no_grad():
        moved = (equation.model(data.inputs(values)) - equation.model(data.inputs(others))).abs()
    assert bool((moved.amax(1) <= found.linf * (values - others).abs().amax(1)).all())
    assert bool((moved.norm(dim=1) <= found.l2 * (values - others).norm(dim=1)).all())


@pytest.mark.parametrize("matrix", [[[0.0, 0.0]], [[3.0, 4.0]], [[1.0, 0.0], [0.0, 0.0]]])
def test_the_spectral_norm_of_thin_and_empty_matrices(matrix: list[list[float]]) -> None:
    tensor = torch.tensor(matrix, dtype=torch.float64)
    exact = float(torch.linalg.matrix_norm(tensor, 2))
    assert exact <= spectral_norm_bound(tensor) <= exact * 1.01 + 1e-12
