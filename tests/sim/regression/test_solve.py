"""The common loop: honest about what a solver did, whatever the solver says."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from idl_cli.errors import ArgumentError, ConvergenceWarning, IgnoredOptionWarning, ShapeError
from idl_cli.sim.regression.certificate import certify
from idl_cli.sim.regression.monitor import HistoryEntry
from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.solve import solve, warn_ignored
from idl_cli.sim.regression.solver import Monitor, SolverResult
from idl_cli.sim.solvers import (
    ActiveSetSolver,
    ADMMSolver,
    BaseSolver,
    ProjectedGDLowRankSolver,
)
from tests.sim.problem_bank import BANK, optimum

BOUND = BANK["budget active"]
EVERYTHING = frozenset({"l1", "l2", "budget"})


@dataclass(frozen=True, kw_only=True)
class Recital(BaseSolver):
    """Shows the monitor given weights in turn, and returns the last."""

    handles: ClassVar[frozenset[str]] = EVERYTHING

    sequence: tuple[Tensor, ...]
    stationary: bool | None = None
    obedient: bool = True
    notes: tuple[str, ...] = ()

    def solve(self, problem: RowRegression, monitor: Monitor) -> SolverResult:
        shown = 0
        for weights in self.sequence:
            shown += 1
            if monitor(weights).should_stop and self.obedient:
                break
        return SolverResult(weights, shown, self.notes, stationary=self.stationary)


@dataclass(frozen=True, kw_only=True)
class PenaltyOnly(Recital):
    """A solver that knows no budget."""

    handles: ClassVar[frozenset[str]] = frozenset({"l1"})


def _zero() -> Tensor:
    return torch.zeros_like(BOUND.regression.cross)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ADMMSolver(max_iter=1, polish_passes=0),
        lambda: ProjectedGDLowRankSolver(max_iter=1),
        lambda: Recital(sequence=(_zero(),)),
    ],
    ids=["admm", "projected_gd", "custom"],
)
def test_a_starved_solver_is_inexact_and_says_so(make: Callable[[], BaseSolver]) -> None:
    with pytest.warns(ConvergenceWarning, match=r"of 5 rows above tol=1e-06 \(rows .*relative gap"):
        solution = solve(BOUND.regression, make())
    assert solution.status == solution.certificate.status == "inexact"
    assert solution.certificate.inexact_rows
    assert solution.certificate.relative_gap is not None
    assert solution.certificate.relative_gap > 1e-6


def test_a_false_claim_does_not_help() -> None:
    # Weights outside the budget, at an objective below the optimum: the judge is not the solver's.
    outside = 3.0 * optimum(BOUND.name)
    with pytest.warns(ConvergenceWarning):
        solution = solve(BOUND.regression, Recital(sequence=(outside,), notes=("optimal!",)))
    assert solution.status == "inexact"
    assert not solution.certificate.feasible
    assert solution.notes == ("optimal!",)
    assert solution.stored_inf_norm == pytest.approx(solution.certificate.inf_norm, rel=1e-6)


@pytest.mark.parametrize(
    ("stationary", "status"), [(None, "optimal"), (True, "stationary"), (False, "inexact")]
)
def test_of_a_non_convex_restriction_no_more_than_stationarity_is_claimed(
    stationary: bool | None, status: str
) -> None:
    solver = Recital(sequence=(optimum(BOUND.name),), stationary=stationary)
    assert solve(BOUND.regression, solver, warn=False).status == status


def test_infeasible_weights_are_not_stationary() -> None:
    solver = Recital(sequence=(3.0 * optimum(BOUND.name),), stationary=True)
    with pytest.warns(ConvergenceWarning):
        assert solve(BOUND.regression, solver).status == "inexact"


def test_a_solver_that_ignores_a_part_is_unconstrained_though_optimal() -> None:
    solver = PenaltyOnly(sequence=(optimum(BOUND.name),))
    with pytest.warns(IgnoredOptionWarning, match=r"PenaltyOnly ignores the bound .* ≤ κ: "):
        solution = solve(BOUND.regression, solver)
    assert solution.status == "unconstrained"
    assert solution.ignored == ("budget",)
    # The figures are there all the same, for comparison.
    assert solution.certificate.status == "optimal"


def test_what_is_ignored_can_be_known_before_there_are_data() -> None:
    solver = PenaltyOnly(sequence=())
    with pytest.warns(IgnoredOptionWarning, match="the l2 penalty and the bound"):
        assert warn_ignored(solver, l1=1.0, l2=0.5, budget=True) == ("l2", "budget")
    assert warn_ignored(solver, l1=1.0, l2=0.0, budget=False) == ()
    with pytest.warns(IgnoredOptionWarning, match="the l1 penalty:"):
        assert warn_ignored(_Nothing(), l1=1.0, l2=0.0, budget=False) == ("l1",)


@dataclass(frozen=True, kw_only=True)
class _Nothing(BaseSolver):
    def solve(self, problem: RowRegression, monitor: Monitor) -> SolverResult:
        return SolverResult(torch.zeros_like(problem.cross), 0)


def test_history_and_progress_tell_the_same_of_every_look() -> None:
    best = optimum(BOUND.name)
    sequence = tuple(torch.lerp(_zero(), best, share) for share in (0.0, 0.5, 1.0))
    seen: list[HistoryEntry] = []
    solution = solve(BOUND.regression, Recital(sequence=sequence), progress=seen.append)
    assert tuple(seen) == solution.history
    assert [entry.iterations for entry in seen] == [1, 2, 3]
    for entry, weights in zip(seen, sequence, strict=True):
        certificate = certify(BOUND.regression, weights)
        assert entry.objective == pytest.approx(certificate.objective, rel=1e-12)
        assert entry.relative_gap == pytest.approx(certificate.relative_gap, rel=1e-9, abs=1e-12)
    assert seen[-1].rows_solved == 5
    assert [entry.seconds for entry in seen] == sorted(entry.seconds for entry in seen)
    assert seen[-1].seconds <= solution.seconds


def test_it_stops_at_the_tolerance_that_was_asked_for() -> None:
    loose = solve(BANK["rank-deficient"].regression, ADMMSolver(warm_iterations=0), tol=1e-2)
    tight = solve(BANK["rank-deficient"].regression, ADMMSolver(warm_iterations=0), tol=1e-9)
    assert loose.status in ("optimal", "at_precision")
    assert loose.iterations <= tight.iterations
    assert tight.certificate.relative_gap is not None
    assert tight.certificate.relative_gap <= 1e-9


def test_out_of_time_is_told_at_the_next_look() -> None:
    sequence = tuple(_zero() for _ in range(50))
    with pytest.warns(ConvergenceWarning):
        solution = solve(BOUND.regression, Recital(sequence=sequence), max_time=1e-9)
    assert len(solution.history) == 1


@pytest.mark.parametrize(
    "solver",
    [
        ActiveSetSolver(warm_iterations=10**7),
        ADMMSolver(warm_iterations=10**7, max_iter=10**7),
    ],
    ids=["active_set", "admm"],
)
def test_the_limit_holds_in_a_warm_up_too(solver: BaseSolver) -> None:
    """Ten million iterations of the smallest problem take minutes; no look comes between them."""
    with pytest.warns(ConvergenceWarning):
        solution = solve(BOUND.regression, solver, tol=1e-300, max_time=0.1)
    assert solution.seconds < 10
    assert solution.iterations < 10**6
    assert solution.certificate.feasible


@pytest.mark.parametrize("rank", [None, 1])
def test_the_limit_holds_between_two_looks_of_projected_gradients(rank: int | None) -> None:
    solver = ProjectedGDLowRankSolver(
        rank=rank, max_iter=10**7, check_every=10**7, stationary_tol=1e-300
    )
    solution = solve(BOUND.regression, solver, tol=1e-300, max_time=0.1, warn=False)
    assert solution.iterations < 10**6
    assert solution.certificate.feasible


def test_weights_that_diverge_are_stopped_and_the_best_seen_is_returned() -> None:
    worse, better = _zero(), 0.5 * optimum(BOUND.name)
    sequence = (worse, better, worse, torch.full_like(worse, math.nan), worse)
    with pytest.warns(ConvergenceWarning):
        solution = solve(BOUND.regression, Recital(sequence=sequence))
    assert len(solution.history) == 4
    assert torch.equal(solution.weights, better)
    assert solution.status == "inexact"
    assert "the best finite point seen is returned" in solution.notes[-1]


def test_weights_that_were_never_finite_have_failed() -> None:
    solution = solve(BOUND.regression, Recital(sequence=(torch.full_like(_zero(), math.inf),)))
    assert solution.status == "failed"


def test_weights_kept_by_the_monitor_are_its_own() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Overwriting(BaseSolver):
        handles: ClassVar[frozenset[str]] = EVERYTHING
        buffer: Tensor = field(default_factory=_zero)

        def solve(self, problem: RowRegression, monitor: Monitor) -> SolverResult:
            self.buffer.copy_(0.5 * optimum(BOUND.name))
            monitor(self.buffer)
            self.buffer.fill_(math.nan)
            return SolverResult(self.buffer, 1)

    with pytest.warns(ConvergenceWarning):
        solution = solve(BOUND.regression, Overwriting())
    assert torch.equal(solution.weights, 0.5 * optimum(BOUND.name))


def test_weights_of_another_shape_are_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Transposed(_Nothing):
        handles: ClassVar[frozenset[str]] = EVERYTHING

        def solve(self, problem: RowRegression, monitor: Monitor) -> SolverResult:
            return SolverResult(torch.zeros_like(problem.cross.T), 0)

    with pytest.raises(ShapeError, match=r"Transposed returned weights \(14, 5\)"):
        solve(BOUND.regression, Transposed())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stored_weights_obey_the_budget_in_their_dtype(dtype: torch.dtype) -> None:
    solution = solve(BOUND.regression, ProjectedGDLowRankSolver(), dtype=dtype)
    assert solution.stored.dtype == dtype
    assert BOUND.radius is not None
    assert solution.stored_inf_norm <= BOUND.radius
    # Not bought by shrinking: still at the bound, to the dtype's precision.
    assert solution.stored_inf_norm >= BOUND.radius * (1 - 10 * torch.finfo(dtype).eps)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"tol": 0.0}, "tol=0.0"), ({"tol": 1.0}, "tol=1.0"), ({"max_time": 0.0}, "max_time=0.0")],
)
def test_limits_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        solve(BOUND.regression, ADMMSolver(), **settings)  # type: ignore[arg-type]


def test_a_caller_that_reports_by_itself_can_have_silence() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solution = solve(BOUND.regression, PenaltyOnly(sequence=(_zero(),)), warn=False)
    assert solution.ignored == ("budget",)
