"""Rows shared out over processes: the answer of one process, whatever their number."""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.sim.regression.certificate import certify
from idl_cli.sim.regression.solve import Solution, solve
from idl_cli.sim.regression.solver import Start
from idl_cli.sim.solvers import ADMMMultiGPUSolver, ADMMSolver
from idl_cli.sim.solvers.admm.row_shares import deal
from idl_cli.sim.solvers.scaling import ScaledProblem
from tests.sim.problem_bank import BANK, planted
from tests.sim.ranks import run_ranks

pytestmark = pytest.mark.slow

TOL = 1e-10


@dataclass(frozen=True)
class Answer:
    weights: Tensor
    status: str
    objective: float
    rows_solved: list[int]


def _answer(solution: Solution) -> Answer:
    return Answer(
        solution.weights.clone(),
        solution.status,
        solution.certificate.objective,
        [entry.rows_solved for entry in solution.history],
    )


def _solve_bank(group: Group, tol: float) -> dict[str, Answer]:
    """Every problem of the bank, and one of more rows than it has."""
    problems = BANK | {"forty-one rows": planted("forty-one rows", 40, rows=41, radius=0.5)}
    return {
        name: _answer(
            solve(bank.regression, ADMMMultiGPUSolver(), tol=tol, group=group, warn=False)
        )
        for name, bank in problems.items()
    }


@pytest.fixture(scope="module", params=[2, 3])
def answers(request: pytest.FixtureRequest) -> list[dict[str, Answer]]:
    return run_ranks(request.param, _solve_bank, TOL)


def test_every_rank_gets_the_same_and_it_is_the_answer_of_one_process(
    answers: list[dict[str, Answer]],
) -> None:
    for name in answers[0]:
        bank = BANK.get(name, planted(name, 40, rows=41, radius=0.5))
        alone = solve(bank.regression, ADMMSolver(), tol=TOL, warn=False)
        first = answers[0][name]
        for other in answers[1:]:
            assert torch.equal(other[name].weights, first.weights), name
        if bank.l1 > 0:  # without a penalty a KKT residual of 1e-10 is at the edge of rounding
            assert first.status in ("optimal", "at_precision"), name
        slack = 1e-9 * alone.certificate.objective + 1e-13 * float(bank.targets.square().sum())
        assert abs(first.objective - alone.certificate.objective) <= slack, name
        # Judged once more here, on the weights that came back.
        judged = certify(bank.regression, first.weights, tol=1e-9)
        assert judged.status in ("optimal", "at_precision"), name


def test_progress_speaks_of_all_rows(answers: list[dict[str, Answer]]) -> None:
    for ranks in answers:
        counts = ranks["forty-one rows"].rows_solved
        assert counts == sorted(counts)
        assert counts[-1] == 41


def test_fewer_rows_than_ranks() -> None:
    (first, second, third) = run_ranks(3, _two_rows)
    assert first.status == "optimal"
    assert torch.equal(first.weights, second.weights)
    assert torch.equal(first.weights, third.weights)


def _two_rows(group: Group) -> Answer:
    bank = planted("two rows", 41, rows=2)
    return _answer(solve(bank.regression, ADMMMultiGPUSolver(), tol=TOL, group=group))


def test_dealt_rows_are_a_partition_and_balanced() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randperm(50, generator=generator)[:23]
    effort = torch.randint(1, 400, (23,), generator=generator)
    for size in (1, 2, 3, 30):
        shares = deal(rows, effort, size)
        assert sorted(torch.cat(shares).tolist()) == sorted(rows.tolist())
        lengths = [len(share) for share in shares]
        assert max(lengths) - min(lengths) <= 1
        if size in (2, 3):
            by_row = dict(zip(rows.tolist(), effort.tolist(), strict=True))
            sums = [sum(by_row[row] for row in share.tolist()) for share in shares]
            assert max(sums) - min(sums) <= int(effort.max())


def test_alone_it_is_admm() -> None:
    bank = BANK["budget active"]
    ours = solve(bank.regression, ADMMMultiGPUSolver())
    theirs = solve(bank.regression, ADMMSolver())
    assert torch.equal(ours.weights, theirs.weights)
    assert ours.iterations == theirs.iterations


def test_options_are_those_of_admm() -> None:
    bank = replace(BANK["budget active"], l1=0.5)
    solution = solve(bank.regression, ADMMMultiGPUSolver(polish_passes=0, max_iter=20), warn=False)
    assert solution.iterations == 20
    assert solution.status == "inexact"


def test_one_process_starts_others_for_the_solve_alone() -> None:
    bank = planted("two rows", 41, rows=2)
    alone = solve(bank.regression, ADMMSolver(), tol=TOL)
    before = set(multiprocessing.active_children())  # those of a fixture
    together = solve(bank.regression, ADMMMultiGPUSolver(processes=2), tol=TOL)
    assert together.status == alone.status == "optimal"
    assert together.certificate.objective == pytest.approx(alone.certificate.objective, rel=1e-9)
    assert together.history[-1].rows_solved == 2
    assert set(multiprocessing.active_children()) == before


def test_a_time_limit_holds_in_the_processes_started() -> None:
    bank = planted("two rows", 41, rows=2)
    solver = ADMMMultiGPUSolver(processes=2, polish_passes=0, max_iter=10**9, warm_iterations=1)
    solution = solve(bank.regression, solver, tol=1e-300, max_time=0.01, warn=False)
    assert solution.status == "inexact"
    assert solution.certificate.feasible


# -- a start ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One penalty of a path: the answer, the solve's iterations, whether G was scaled anew."""

    answer: Answer
    iterations: int
    scaled_anew: bool


def _follow(group: Group, solver: ADMMSolver, l1: list[float]) -> list[Step]:
    problem = planted("a path", 42, rows=7, radius=0.5).regression
    start = Start(torch.zeros_like(problem.cross))
    steps = []
    for penalty in l1:
        solution = solve(replace(problem, l1=penalty), solver, tol=TOL, group=group, start=start)
        assert solution.start is not None
        anew = solution.start.memory is not start.memory
        start = solution.start
        steps.append(Step(_answer(solution), solution.iterations, anew))
    return steps


def test_a_path_begins_each_solve_at_the_answer_before() -> None:
    penalties = [30.0, 10.0, 3.0, 3.0]
    alone = _follow(Group.single(), ADMMSolver(), penalties)
    ranks = run_ranks(2, _follow, ADMMMultiGPUSolver(), penalties)
    for index, expected in enumerate(alone):
        for found in (each[index] for each in ranks):
            assert torch.equal(found.answer.weights, ranks[0][index].answer.weights)
            assert found.answer.status == expected.answer.status == "optimal"
            assert found.answer.objective == pytest.approx(expected.answer.objective, rel=1e-9)
            assert found.iterations == expected.iterations  # 0: the polish was enough
            assert found.scaled_anew == expected.scaled_anew == (index == 0)


def test_selections_of_rows_share_one_factorisation() -> None:
    scaled = ScaledProblem.of(BANK["budget active"].regression)
    some = scaled.select(torch.tensor([0, 3]))
    assert some.select(torch.tensor([1])).inverse is some.inverse
    assert scaled.inverse is some.inverse
