import copy
import warnings

import pytest
import torch

from idl_cli.equilibrium.result import FixedPointResult, SolveStatus
from idl_cli.equilibrium.statistics import SolveStatistics
from idl_cli.errors import ConvergenceWarning


def result(iterations: list[int], residuals: list[float], tol: float = 1e-5) -> FixedPointResult:
    residual = torch.tensor(residuals)
    converged = residual <= tol
    status = SolveStatus.CONVERGED if bool(converged.all()) else SolveStatus.MAX_ITERATIONS
    return FixedPointResult(
        torch.zeros(len(residuals), 2), residual, torch.tensor(iterations), tol, status
    )


def test_figures_are_over_samples_not_over_batches() -> None:
    statistics = SolveStatistics(warn=False)
    statistics.record_forward(result([10], [1e-6]))
    statistics.record_forward(result([1, 2, 500], [1e-7, 1e-6, 1e-2]))
    statistics.record_backward(result([7, 9], [1e-8, 1e-9]))
    summary = statistics.summary()
    assert summary == {
        "iterations_mean": 513 / 4,
        "iterations_max": 500,
        "unconverged_share": 0.25,
        "residual_max": pytest.approx(1e-2),
        "backward_iterations_mean": 8,
        "backward_iterations_max": 9,
        "backward_unconverged_share": 0,
        "backward_residual_max": pytest.approx(1e-8),
    }
    assert statistics.summary() == summary


def test_many_batches_are_folded_without_loss() -> None:
    statistics = SolveStatistics()
    for batch in range(1000):
        statistics.record_forward(result([batch, 1], [1e-6, 0.0]))
    summary = statistics.summary()
    assert summary["iterations_mean"] == (999 * 1000 / 2 + 1000) / 2000
    assert summary["iterations_max"] == 999


def test_a_direction_without_solves_is_left_out_and_reset_forgets() -> None:
    statistics = SolveStatistics()
    assert statistics.summary() == {}
    statistics.record_forward(result([1], [0.0]))
    assert set(statistics.summary()) == {
        "iterations_mean",
        "iterations_max",
        "unconverged_share",
        "residual_max",
    }
    statistics.reset()
    assert statistics.summary() == {}


def test_a_failure_of_either_kind_warns_once_until_reset() -> None:
    statistics = SolveStatistics()
    with pytest.warns(ConvergenceWarning, match=r"1 of 2 equilibria did not converge.*0\.5"):
        statistics.record_forward(result([3, 3], [0.5, 0.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        statistics.record_forward(result([3], [0.5]))
    with pytest.warns(ConvergenceWarning, match="1 of 1 adjoint"):
        statistics.record_backward(result([3], [0.5]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        statistics.record_backward(result([3], [0.5]))
    assert statistics.summary()["unconverged_share"] == pytest.approx(2 / 3)
    statistics.reset()
    with pytest.warns(ConvergenceWarning, match="adjoint"):
        statistics.record_backward(result([3], [0.5]))


def test_a_listener_of_its_own_can_silence_the_warning_but_not_the_count() -> None:
    statistics = SolveStatistics()
    statistics.warn = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        statistics.record_forward(result([3], [0.5]))
    assert statistics.summary()["unconverged_share"] == 1


def test_a_nan_residual_counts_as_infinite() -> None:
    statistics = SolveStatistics(warn=False)
    statistics.record_forward(result([3, 4], [float("nan"), 1e-6]))
    assert statistics.summary()["residual_max"] == float("inf")
    assert statistics.summary()["unconverged_share"] == 0.5


def test_a_copy_counts_for_itself() -> None:
    statistics = SolveStatistics()
    statistics.record_forward(result([3], [0.0]))
    other = copy.deepcopy(statistics)
    other.record_forward(result([5], [0.0]))
    assert statistics.summary()["iterations_mean"] == 3
    assert other.summary()["iterations_mean"] == 4


def test_counts_of_others_are_added() -> None:
    whole, parts = SolveStatistics(warn=False), SolveStatistics(warn=False)
    for part in (result([10], [1e-6]), result([1, 500], [1e-7, 1e-2])):
        for statistics in (whole, other := SolveStatistics(warn=False)):
            statistics.record_forward(part)
            statistics.record_backward(part)
        parts.merge(other.state_dict())
    assert parts.state_dict() == whole.state_dict()
    assert parts.summary() == whole.summary()
