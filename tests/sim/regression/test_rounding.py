"""What is stored obeys the budget, however it is summed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idl_cli.sim.regression.problem import RowBudget
from idl_cli.sim.regression.prox import prox_rows
from idl_cli.sim.regression.rounding import round_feasible


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    radius=st.floats(1e-3, 0.999),
    columns=st.sampled_from([1, 2, 7, 112, 900]),
    dtype=st.sampled_from([torch.float32, torch.float16]),
)
def test_rows_on_the_ball_are_stored_within_it(
    seed: int, radius: float, columns: int, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(seed)
    budget = RowBudget(columns, radius)
    values = torch.randn(8, columns + 2, generator=generator, dtype=torch.float64)
    weights = prox_rows(10 * values, 0.0, budget)
    stored = round_feasible(weights, budget, dtype)
    assert stored.dtype == dtype
    assert float(stored[:, :columns].double().abs().sum(dim=1).max()) <= radius
    assert float(stored[:, :columns].abs().sum(dim=1).double().max()) <= radius
    # Shrunk by a few units in the last place, no more: as a share of the whole row, and never
    # beyond the spacing of the smallest numbers of the dtype.
    moved = (stored.double() - weights).abs()
    info = torch.finfo(dtype)
    allowed = 20 * info.eps * weights.abs() + info.smallest_normal
    assert bool((moved <= allowed).all())
    # The other weights are only rounded.
    assert torch.equal(stored[:, columns:], weights[:, columns:].to(dtype))
    assert bool(((stored == 0) | (weights != 0)).all())


def test_rows_far_outside_are_rounded_only() -> None:
    weights = torch.tensor([[1.5, -2.5], [0.25, 0.25]], dtype=torch.float64)
    assert torch.equal(round_feasible(weights, RowBudget(2, 0.5)), weights.float())


@pytest.mark.parametrize("budget", [None, RowBudget(2, 10.0)])
def test_without_a_binding_budget_it_is_plain_rounding(budget: RowBudget | None) -> None:
    weights = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(round_feasible(weights, budget), weights.float())
