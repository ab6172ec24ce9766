import math

import pytest
import torch
from torch import Tensor

from idl_cli.equilibrium.engine import Iterations, solve
from idl_cli.equilibrium.recurrence.together import Together
from idl_cli.equilibrium.residual import reachable, select
from idl_cli.equilibrium.result import FixedPointResult, SolveStatus


class Decay(Iterations):
    """x ← rate x + 1 for every sample with a rate of its own: the fixed point is 1 / (1 − rate)."""

    def __init__(self, rates: Tensor, states: int) -> None:
        self.rates = rates[:, None].double()
        self.x = torch.zeros(len(rates), states, dtype=torch.float64)
        self.evaluations = 0

    def advance(self, count: int) -> int:
        for _ in range(count):
            self.x = self.rates * self.x + 1
            self.evaluations += len(self.x)
        return count

    def look(self) -> tuple[Tensor, Tensor]:
        x = self.x
        self.advance(1)
        return x, self.x

    def restrict(self, samples: Tensor) -> None:
        self.rates, self.x = select(self.rates, samples), select(self.x, samples)


def together(first_check: int) -> Together:
    return Together(first_check=first_check, rounding=reachable(0, torch.float64))


def iterations_of(result_iterations: int | Tensor, samples: int) -> Tensor:
    if isinstance(result_iterations, int):
        return torch.full((samples,), result_iterations)
    return result_iterations


@pytest.mark.parametrize("states", [2, 400])  # small: all go on together; large: they part
def test_every_sample_meets_the_tolerance_and_its_evaluations_are_counted(states: int) -> None:
    rates = torch.cat([torch.full((60,), 0.1), torch.full((30,), 0.7), torch.full((10,), 0.95)])
    work = Decay(rates, states)
    result = solve(work, together(3), max_iter=2000, tol=1e-10)
    assert result.status is SolveStatus.CONVERGED
    assert bool((result.residuals <= 1e-10).all())
    # A residual r leaves an error of up to r / (1 − rate) times 1 + ‖x‖.
    expected = (1 / (1 - rates.double()))[:, None].expand_as(result.value)
    torch.testing.assert_close(result.value, expected, rtol=1e-8, atol=0)
    counts = iterations_of(result.iterations, len(rates))
    assert int(counts.sum()) == work.evaluations
    if states == 400:
        assert counts[:60].max() < counts[60:90].max() < counts[90:].max()


def test_neighbouring_solves_are_looked_at_when_the_last_had_converged() -> None:
    policy = together(2)
    looks = []

    class Counting(Decay):
        def look(self) -> tuple[Tensor, Tensor]:
            looks[-1] += 1
            return super().look()

    for _ in range(4):
        looks.append(0)
        solve(Counting(torch.full((5,), 0.8), 3), policy, max_iter=500, tol=1e-10)
    assert looks[0] > 3
    assert max(looks[2:]) <= 2


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_few_values_are_iterated_on_rather_than_looked_at_too_early(rate: float) -> None:
    # One step divides the residual by 1 / rate: where it is then somewhat below the tolerance,
    # looking a step earlier would fail in every other solve.
    looks = []

    class Counting(Decay):
        def look(self) -> tuple[Tensor, Tensor]:
            looks.append(1)
            return super().look()

    policy = together(2)
    solve(Counting(torch.full((5,), rate), 3), policy, max_iter=500, tol=1e-10)
    looks.clear()
    for _ in range(10):
        result = solve(Counting(torch.full((5,), rate), 3), policy, max_iter=500, tol=1e-10)
        assert bool((result.residuals <= 1e-10).all())
    assert len(looks) == 10


def test_the_limit_is_kept_and_said() -> None:
    work = Decay(torch.tensor([0.1, 0.99]), 3)
    result = solve(work, together(2), max_iter=20, tol=1e-10)
    assert result.status is SolveStatus.MAX_ITERATIONS
    assert (result.residuals <= 1e-10).tolist() == [True, False]
    assert work.evaluations == 2 * 20


def test_a_diverging_sample_does_not_stop_the_others() -> None:
    # 1e3 ** k overflows after about a hundred steps: infinite, then not a number.
    work = Decay(torch.tensor([0.1, 1e3, 0.9]), 3)
    result = solve(work, together(2), max_iter=2000, tol=1e-10)
    assert result.status is SolveStatus.NON_FINITE
    assert (result.residuals <= 1e-10).tolist() == [True, False, True]
    assert math.isnan(float(result.residuals[1]))


def test_residuals_are_relative_to_the_scale_given() -> None:
    def scaled(scale: list[float]) -> FixedPointResult:
        work, divisor = Decay(torch.full((2,), 0.5), 3), torch.tensor(scale, dtype=torch.float64)
        return solve(work, together(1), max_iter=500, tol=1e-6, scale=divisor)

    loose = scaled([1e3, 1e3])
    tight = scaled([1.0, 1.0])
    # Half a digit of binary a step: 1000 is ten steps.
    assert isinstance(loose.spent, int)
    assert isinstance(tight.spent, int)
    assert 6 <= tight.spent - loose.spent <= 14
