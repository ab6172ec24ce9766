"""The prox is the minimiser of its definition, and rounding keeps what it promises."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from idl_cli.sim.regression.problem import RowBudget
from idl_cli.sim.regression.prox import prox_rows


def _normal(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    threshold=st.sampled_from([0.0, 0.1, 1.0, 5.0]),
    radius=st.sampled_from([None, 0.1, 1.0, 50.0]),
    weighted=st.booleans(),
)
def test_it_satisfies_the_optimality_conditions(
    seed: int, threshold: float, radius: float | None, weighted: bool
) -> None:
    values = 2 * _normal(seed, 6, 9)
    cost = _normal(seed + 1, 9).exp() if weighted else None
    unit = torch.ones(9, dtype=torch.float64) if cost is None else cost
    budget = None if radius is None else RowBudget(5, radius)
    result = prox_rows(values, threshold, budget, cost)
    pull = values - result
    spent = result[:, :5].abs() @ unit[:5]
    # With a multiplier μ >= 0 of the budget: pull = (λ + μ) cost sign at non-zeros, below at zero.
    multiplier = torch.zeros(6, dtype=torch.float64)
    if radius is not None:
        assert float(spent.max()) <= radius * (1 + 1e-12)
        leading = (pull[:, :5].abs() / unit[:5]).masked_fill(result[:, :5] == 0, 0.0)
        bound = (spent >= radius * (1 - 1e-9)) & (result[:, :5] != 0).any(dim=1)
        multiplier = torch.where(bound, leading.amax(dim=1) - threshold, multiplier)
        assert float(multiplier.min()) >= -1e-12
    limit = threshold * unit.expand(6, 9).clone()
    limit[:, :5] += multiplier[:, None] * unit[:5]
    nonzero = result != 0
    expected = limit * result.sign()
    torch.testing.assert_close(pull[nonzero], expected[nonzero], rtol=1e-9, atol=1e-11)
    assert bool((pull.abs() <= limit + 1e-11)[~nonzero].all())


def test_one_threshold_a_row() -> None:
    values = torch.tensor([[3.0, -0.5], [3.0, -0.5]])
    threshold = torch.tensor([[1.0], [0.0]])
    assert prox_rows(values, threshold, None).tolist() == [[2.0, 0.0], [3.0, -0.5]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_argument_is_left_alone_and_the_dtype_kept(dtype: torch.dtype) -> None:
    values = 5 * _normal(0, 3, 4).to(dtype)
    before = values.clone()
    result = prox_rows(values, 0.1, RowBudget(4, 0.5), torch.ones(4, dtype=dtype))
    assert torch.equal(values, before)
    assert result.dtype == dtype


def test_unit_costs_change_nothing() -> None:
    values = 3 * _normal(4, 20, 7)
    budget = RowBudget(4, 1.0)
    plain = prox_rows(values, 0.3, budget)
    ones = prox_rows(values, 0.3, budget, torch.ones(7, dtype=torch.float64))
    torch.testing.assert_close(ones, plain, rtol=1e-12, atol=1e-14)
