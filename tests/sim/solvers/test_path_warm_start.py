"""A solve that begins at the answer for another penalty: cheaper, and the same answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from idl_cli.errors import ShapeError
from idl_cli.sim.regression.problem import RowBudget, RowRegression
from idl_cli.sim.regression.solve import Solution, solve
from idl_cli.sim.regression.solver import Monitor, SolverResult, Start
from idl_cli.sim.solvers import ActiveSetSolver, ADMMSolver, BaseSolver
from idl_cli.sim.solvers.scaling import ScaledProblem
from tests.sim.problem_bank import BANK

SOLVERS = [ActiveSetSolver(), ADMMSolver()]
TOL = 1e-9


def _wide(seed: int = 0) -> RowRegression:
    """Rows whose supports grow from nothing to most of 60 correlated features."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    mixing = torch.eye(60, dtype=torch.float64) + 0.1 * normal(60, 60)
    samples = mixing @ normal(60, 150)
    targets = (normal(12, 60) * (torch.rand(12, 60, generator=generator) < 0.3)) @ samples
    targets = targets + normal(12, 150)
    return RowRegression(
        gram=samples @ samples.T,
        cross=targets @ samples.T,
        target_square=targets.square().sum(dim=1),
        l1=0.0,
        budget=RowBudget(20, 2.0),
    )


def _same(warm: Solution, cold: Solution) -> None:
    assert warm.status == cold.status == "optimal"
    assert warm.certificate.relative_gap is not None
    assert warm.certificate.relative_gap <= TOL
    torch.testing.assert_close(
        warm.certificate.row_objectives, cold.certificate.row_objectives, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("solver", SOLVERS, ids=["active_set", "admm"])
def test_a_path_has_the_answers_of_cold_solves(solver: BaseSolver) -> None:
    problem = _wide()
    start = Start(torch.zeros_like(problem.cross))
    for step in range(1, 13):
        at = replace(problem, l1=problem.lambda_max * 1e-4 ** (step / 12))
        warm = solve(at, solver, tol=TOL, start=start)
        _same(warm, solve(at, solver, tol=TOL))
        assert warm.start is not None
        start = warm.start


@pytest.mark.parametrize("solver", SOLVERS, ids=["active_set", "admm"])
@pytest.mark.parametrize(
    "name", ["budget active", "budget inactive", "elastic net", "duplicated features"]
)
def test_a_far_start_changes_no_answer(solver: BaseSolver, name: str) -> None:
    problem = BANK[name].regression
    for factor in (0.01, 100.0):
        elsewhere = solve(replace(problem, l1=factor * problem.l1), ActiveSetSolver())
        _same(
            solve(problem, solver, tol=TOL, start=elsewhere.start), solve(problem, solver, tol=TOL)
        )


def test_the_factorisation_is_kept_for_the_same_statistics_alone() -> None:
    problem = replace(_wide(), l1=1.0)
    known = solve(problem, ActiveSetSolver()).start
    assert known is not None
    assert ScaledProblem.of(replace(problem, l1=0.5), known.memory) is known.memory
    for other in (replace(problem, l2=1.0), replace(problem, gram=problem.gram.clone()), _wide(1)):
        assert ScaledProblem.of(other, known.memory) is not known.memory
    other = replace(_wide(1), l1=1.0)
    _same(
        solve(other, ActiveSetSolver(), tol=TOL, start=known),
        solve(other, ActiveSetSolver(), tol=TOL),
    )


def test_a_warm_start_spares_most_of_the_work() -> None:
    problem = replace(_wide(), l1=1.0)
    first = solve(problem, ADMMSolver(), tol=TOL)
    again = solve(problem, ADMMSolver(), tol=TOL, start=first.start)
    assert again.iterations == 0 < first.iterations


@dataclass(frozen=True, kw_only=True)
class Plain(BaseSolver):
    """A plug-in that knows nothing of starts."""

    handles: ClassVar[frozenset[str]] = frozenset({"l1", "l2", "budget"})

    def solve(self, problem: RowRegression, monitor: Monitor) -> SolverResult:
        del monitor
        return SolverResult(torch.zeros_like(problem.cross), 1)


def test_a_solver_without_warm_start_begins_anew() -> None:
    problem = replace(_wide(), l1=1e9)
    first = solve(problem, Plain())
    assert solve(problem, Plain(), start=first.start).status == "optimal"


def test_weights_of_another_problem_are_refused() -> None:
    problem = _wide()
    with pytest.raises(ShapeError, match=r"start\.weights has shape \(3, 4\)"):
        solve(problem, ActiveSetSolver(), start=Start(torch.zeros(3, 4)))
