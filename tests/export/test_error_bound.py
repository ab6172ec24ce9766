"""The proven error of finitely many steps: never below the true one, and what decides K."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idl_cli.equilibrium.conditions import ACTIVATION_FACTS
from idl_cli.errors import UnsupportedModelError
from idl_cli.export.deployment import exact
from idl_cli.export.equations import Implicit, implicit_equations
from idl_cli.export.error_bound import InputRange, bound_of
from idl_cli.models.implicit import ImplicitModel
from tests.export.makers import implicit

NON_EXPANSIVE = [name for name, facts in ACTIVATION_FACTS.items() if facts.lipschitz <= 1]


def steps_of(model: ImplicitModel, inputs: torch.Tensor, steps: int) -> torch.Tensor:
    """ŷ after K steps from φ(Bu + b), in float64."""
    wide = exact(model)
    weights = wide.effective_weights()  # type: ignore[operator]
    offset = inputs @ weights.B.t() + weights.state_bias
    x = model.activation.function(offset)
    for _ in range(steps):
        x = model.activation.function(x @ weights.A.t() + offset)
    return x @ weights.C.t() + inputs @ weights.D.t() + weights.output_bias


@settings(max_examples=40, derandomize=True, deadline=None)
@given(
    st.integers(0, 2**16),
    st.sampled_from(NON_EXPANSIVE),
    st.sampled_from([None, 2]),
    st.sampled_from([1e-1, 1e-3, 1e-6]),
    st.booleans(),
)
def test_the_error_is_never_above_its_bound(
    seed: int, activation: str, rank: int | None, tolerance: float, by_samples: bool
) -> None:
    model = implicit(3, 2, 7, seed=seed, activation=activation, rank=rank, kappa=0.9)
    inputs = torch.from_numpy(np.random.default_rng(seed).uniform(-2, 3, (50, 3)))
    ends = InputRange(np.full(3, -2.0), np.full(3, 3.0), "here")
    samples = inputs.numpy() if by_samples else None
    bound = bound_of(implicit_equations(model), ends, tolerance=tolerance, samples=samples)
    with torch.no_grad():
        truth = exact(model)(inputs)
        error = float((steps_of(model, inputs, bound.steps) - truth).abs().max())
        single = float((model(inputs.float()).double() - truth).abs().max())
    # The reference itself is solved to 1e-12.
    assert error <= bound.truncation + 1e-10
    assert bound.truncation <= tolerance
    assert bound.truncation <= bound.by_norm * (1 + 1e-5)
    # The model's own solve stops at its tolerance of 1e-5, relative, and rounds in float32.
    assert single <= bound.rounding + 1e-3
    if bound.steps:
        fewer = bound_of(
            implicit_equations(model), ends, tolerance=1.0, steps=bound.steps - 1, samples=samples
        )
        assert fewer.truncation > tolerance


def test_a_model_without_feedback_needs_no_steps() -> None:
    model = implicit(3, 2, 7, well_posedness="triangular")
    ends = InputRange(np.zeros(3), np.ones(3), "here")
    bound = bound_of(implicit_equations(model), ends, tolerance=1e-9)
    assert (bound.steps, bound.truncation) == (0, 0.0)


def test_rows_beyond_one_are_taken_where_the_spectrum_is_within() -> None:
    """ρ(|A|) < 1 suffices, whatever ‖A‖∞ is; beyond it no number of steps is proven."""
    weights = implicit_equations(implicit(2, 1, 2))
    ends = InputRange(np.zeros(2), np.ones(2), "here")

    def with_feedback(matrix: list[list[float]]) -> Implicit:
        array = np.array(matrix, dtype=np.float32)
        return Implicit(
            (array,), weights.B, weights.b, weights.C, weights.D, weights.c, "relu", None
        )

    bound = bound_of(with_feedback([[0.1, 9.0], [0.01, 0.1]]), ends, tolerance=1e-3)
    assert bound.kappa > 1
    assert bound.truncation <= 1e-3
    assert bound.by_norm == np.inf
    with pytest.raises(UnsupportedModelError, match=r"give format\.steps=N"):
        bound_of(with_feedback([[0.5, 1.0], [1.0, 0.5]]), ends, tolerance=1e-3)
    given_steps = bound_of(with_feedback([[0.5, 1.0], [1.0, 0.5]]), ends, tolerance=1, steps=3)
    assert given_steps.truncation == np.inf
