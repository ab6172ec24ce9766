"""The proof that an equilibrium is unique, and what it refuses."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from idl_cli.certificates.equation import Equation
from idl_cli.certificates.well_posedness import Contraction, WellPosedness
from idl_cli.errors import NonFiniteError, UnsupportedModelError, WellPosednessWarning
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.rnn import ImplicitRNN
from tests.certificates.models import KINDS, random_model


def exact_ratio(found: Contraction) -> Fraction:
    """max_i (M t)_i / t_i in rational numbers."""
    weights = [Fraction(each) for each in found.weights.tolist()]
    rows = found.matrix.tolist()
    return max(
        sum(Fraction(entry) * weight for entry, weight in zip(row, weights, strict=True)) / own
        for row, own in zip(rows, weights, strict=True)
    )


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    size=st.integers(1, 6),
    radius=st.floats(0.01, 0.999999),
    density=st.floats(0.2, 1.0),
)
def test_the_bound_holds_in_exact_arithmetic_and_is_near(
    seed: int, size: int, radius: float, density: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.rand(size, size, generator=generator, dtype=torch.float64)
    matrix *= torch.rand(size, size, generator=generator) < density
    spectral = float(torch.linalg.eigvals(matrix).abs().max())
    if spectral > 1e-6:
        matrix *= radius / spectral
    true = float(torch.linalg.eigvals(matrix).abs().max())
    found = Contraction.prove(matrix)
    assert exact_ratio(found) <= Fraction(found.ratio) < 1
    assert found.ratio >= true * (1 - 1e-9)
    assert found.ratio <= max(0.5, 1.05 * true, 1 - 0.5 * (1 - true)) + 1e-9


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), radius=st.sampled_from([0.3, 0.9, 0.999, 1 - 1e-9]))
def test_a_supersolution_is_one_in_exact_arithmetic(seed: int, radius: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.rand(4, 4, generator=generator, dtype=torch.float64)
    matrix *= radius / float(torch.linalg.eigvals(matrix).abs().max())
    right = torch.rand(3, 4, generator=generator, dtype=torch.float64)
    found = Contraction.prove(matrix).supersolution(right)
    rows = [[Fraction(entry) for entry in row] for row in matrix.tolist()]
    for x, w in zip(found.tolist(), right.tolist(), strict=True):
        for i, row in enumerate(rows):
            product = sum(entry * Fraction(each) for entry, each in zip(row, x, strict=True))
            assert Fraction(x[i]) >= Fraction(w[i]) + product
    exact = torch.linalg.solve(torch.eye(4, dtype=torch.float64) - matrix, right.t()).t()
    # the condition of the system leaves this many digits
    assert torch.allclose(found, exact, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_is_proven(kind: str) -> None:
    proof = WellPosedness.prove(Equation.of(random_model(**KINDS[kind])))
    assert proof.radius < 1
    assert (proof.proof == "triangular") == (kind == "triangular")
    assert proof.radius > 0 or kind == "triangular"


def test_a_deep_narrow_network_whose_norms_multiply_is_proven_by_its_order() -> None:
    layers = [nn.Linear(3, 4), nn.ReLU()]
    for _ in range(12):
        layers += [nn.Linear(4, 4), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Linear(4, 2))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(30)
    proof = WellPosedness.prove(Equation.of(network))
    assert proof.proof == "triangular"
    assert proof.radius == 0
    assert proof.forward.ratio < 1


def _unconstrained(A: list[list[float]], **keywords: str) -> ImplicitModel:
    with pytest.warns(WellPosednessWarning):
        model = ImplicitModel(2, 2, 2, well_posedness="none", **keywords)
    with torch.no_grad():
        model.A.copy_(torch.tensor(A))
    return model


@pytest.mark.parametrize(
    "A", [[[0.5, 0.5], [0.5, 0.5]], [[0.0, 2.0], [0.5, 0.0]], [[-1.1, 0], [0, 0]]]
)
def test_a_radius_of_one_or_more_is_refused(A: list[list[float]]) -> None:
    with pytest.raises(UnsupportedModelError, match="must be below 1"):
        WellPosedness.prove(Equation.of(_unconstrained(A)))


def test_rows_beyond_one_are_proven_with_weights() -> None:
    proof = WellPosedness.prove(Equation.of(_unconstrained([[0.0, 5.0], [0.1, 0.0]])))
    assert proof.proof == "collatz_wielandt"
    assert proof.inf_norm == pytest.approx(5)
    assert proof.radius == pytest.approx(0.5**0.5, rel=0.01)
    assert proof.radius >= 0.5**0.5


def test_an_expansive_activation_counts() -> None:
    hard = _unconstrained([[0.7, 0.0], [0.0, 0.0]], activation="hardswish")
    with pytest.raises(UnsupportedModelError, match="must be below 1"):
        WellPosedness.prove(Equation.of(hard))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["A", "B", "C", "D", "output_bias"])
def test_weights_that_are_no_numbers_are_refused(name: str, value: float) -> None:
    model = random_model()
    with torch.no_grad():
        getattr(model, name).view(-1)[1] = value
    with pytest.raises(NonFiniteError, match=f"{name} holds"):
        Equation.of(model)


def test_what_has_no_such_equilibrium_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="ImplicitRNN is certified by no bound"):
        Equation.of(ImplicitRNN(3, 2, 4, 4))


def test_a_network_is_judged_as_it_is() -> None:
    """Through its exact implicit form, in float64, to the last bit of its weights."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 4), nn.ReLU(), nn.Linear(4, 3))
    equation = Equation.of(network)
    assert torch.equal(equation.B[-7:], network[0].weight.detach().double())
    inputs = torch.randn(10, 5, dtype=torch.float64)
    with torch.no_grad():
        expected = network.double()(inputs)
    assert torch.allclose(equation.model(inputs), expected, rtol=1e-12)


@pytest.mark.parametrize("rank", [None, 2])
def test_rows_that_rounding_takes_beyond_the_ball_are_judged_as_they_are(rank: int | None) -> None:
    model = random_model(rank=rank)
    with torch.no_grad():
        for parameter in (model.A,) if rank is None else (model.L, model.R):
            parameter.mul_(1 + 1e-7)
    equation = Equation.of(model)
    for judged, stored in zip(
        equation.model.operator().factors, model.operator().factors, strict=True
    ):
        assert torch.equal(judged, stored.double())
