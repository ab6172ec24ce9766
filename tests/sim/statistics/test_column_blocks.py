"""G split by columns over processes: what a process holds, and that the answer is the same."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.distributed.sharding import share
from idl_cli.sim.regression.problem import RowBudget
from idl_cli.sim.regression.solve import solve
from idl_cli.sim.regression.stage_problem import stage_problem
from idl_cli.sim.solvers import ADMMMultiGPUSolver, ADMMSolver
from idl_cli.sim.statistics.block_matrix import WHOLE_FEATURES, ColumnBlocks
from idl_cli.sim.statistics.column_blocks import ColumnBlockStatistics
from idl_cli.sim.statistics.dense import SufficientStatistics
from idl_cli.sim.statistics.submatrices import submatrices
from tests.sim.problem_bank import BANK, BankProblem
from tests.sim.ranks import run_ranks

pytestmark = pytest.mark.slow

CHOSEN = (
    "planted sparse",
    "budget active",
    "no budget",
    "elastic net",
    "one row",
    "dead rows",
    "λ > λ_max",
    "duplicated features",
    "rank-deficient",
    "fewer samples than features",
    "zero features",
    "features of units 1e6 apart",
    "tiny penalty",
    "no penalty",
)
WARM = 50


def _spd(size: int) -> Tensor:
    generator = torch.Generator().manual_seed(size)
    factor = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return factor @ factor.T / size + 0.1 * torch.eye(size, dtype=torch.float64)


@dataclass(frozen=True)
class Products:
    rows: Tensor
    vector: Tensor
    diagonal: Tensor
    inverse: Tensor
    parts: list[Tensor]


def _products(group: Group, sizes: tuple[int, ...]) -> list[Products]:
    return [_products_of(group, size) for size in sizes]


def _products_of(group: Group, size: int) -> Products:
    matrix = _spd(size)
    blocks = ColumnBlocks(size, group)
    block = matrix[:, blocks.columns].contiguous()
    values = matrix[: group.size + 3] ** 2  # not divisible: some processes have a row more
    mine = values[share(len(values), group.rank, group.size)]
    return Products(
        blocks.multiply(mine, block),
        blocks.multiply_shared(matrix[0], block),
        blocks.diagonal(block),
        blocks.inverse(block.clone()),
        submatrices(blocks, block, _index_sets(size, group.rank)),
    )


def _index_sets(size: int, rank: int) -> list[Tensor]:
    """Some of the first process's columns, none, and every other (or third) column."""
    every = torch.arange(size)
    return [every[: size // 3], every[:0], every[:: rank + 2]]


def test_products_and_inverse_are_those_of_the_whole() -> None:
    found = run_ranks(2, _products, (2, 7, 600))
    for index, size in enumerate((2, 7, 600)):
        ranks = [each[index] for each in found]
        matrix = _spd(size)
        expected = matrix[:5] ** 2 @ matrix
        torch.testing.assert_close(torch.cat([each.rows for each in ranks]), expected)
        inverse = torch.cat([each.inverse for each in ranks], dim=1)
        torch.testing.assert_close(inverse, torch.linalg.inv(matrix), rtol=1e-9, atol=1e-11)
        for rank, each in enumerate(ranks):
            for indices, part in zip(_index_sets(size, rank), each.parts, strict=True):
                assert torch.equal(part, matrix[indices][:, indices])
            torch.testing.assert_close(each.vector, matrix[0] @ matrix)
            assert torch.equal(each.diagonal, matrix.diagonal())


@dataclass(frozen=True)
class Blocked:
    gram_shape: tuple[int, ...]
    weights: Tensor
    status: str
    objective: float
    lambda_max: float
    iterations: int


def _statistics(group: Group, bank: BankProblem) -> ColumnBlockStatistics:
    """Each process adds its share of the samples, in two batches."""
    samples, targets = bank.samples.T, bank.targets.T
    statistics = ColumnBlockStatistics(
        bank.count, samples.shape[1] - bank.count, {"Z": targets.shape[1]}, group=group
    )
    for batch in (slice(0, 7), slice(7, None)):
        x, z = samples[batch], targets[batch]
        own = share(len(x), group.rank, group.size)
        statistics.update(x[own, : bank.count], x[own, bank.count :], {"Z": z[own]})
    return statistics


def _solve_blocked(group: Group, names: tuple[str, ...]) -> list[Blocked]:
    found = []
    for name in names:
        bank = BANK[name]
        statistics = _statistics(group, bank)
        problem = stage_problem(
            statistics,
            "Z",
            penalty=bank.l1,
            l2=bank.l2,
            budget=None if bank.radius is None else RowBudget(bank.count, bank.radius),
        )
        solver = ADMMMultiGPUSolver(warm_iterations=WARM)
        solution = solve(problem, solver, tol=1e-10, group=group, warn=False)
        found.append(
            Blocked(
                tuple(problem.gram.shape),
                solution.weights,
                solution.status,
                solution.certificate.objective,
                problem.lambda_max,
                solution.iterations,
            )
        )
    return found


def test_the_answer_is_admm_s_while_no_process_holds_gram_whole() -> None:
    size = 3  # 14 features: blocks of 5, 5 and 4
    ranks = run_ranks(size, _solve_blocked, CHOSEN)
    for index, name in enumerate(CHOSEN):
        bank = BANK[name]
        alone = solve(bank.regression, ADMMSolver(), tol=1e-10)
        for rank in ranks:
            found = rank[index]
            assert found.gram_shape[1] <= -(-len(bank.samples) // size)
            assert found.status in ("optimal", "at_precision"), name
            assert found.objective == pytest.approx(alone.certificate.objective, rel=1e-9), name
            assert found.lambda_max == pytest.approx(bank.regression.lambda_max, rel=1e-12)
            assert found.iterations == WARM, name  # the polish does the rest
            assert torch.equal(found.weights, ranks[0][index].weights)
        judged = bank.objective(ranks[0][index].weights).sum()
        assert float(judged) == pytest.approx(alone.certificate.objective, rel=1e-9)


def _rescaled(group: Group, name: str) -> dict[str, Tensor]:
    statistics = _statistics(group, BANK[name]).rescaled(torch.arange(1.0, 9.0))
    return {
        "gram": statistics.gram,
        "cross": statistics.cross["Z"],
        "square": statistics.square["Z"],
        "count": torch.tensor(statistics.count),
    }


def test_statistics_are_the_columns_and_rows_of_the_whole() -> None:
    bank = BANK["one sample"]  # fewer samples than processes
    whole = SufficientStatistics(8, 6, {"Z": 5})
    whole.update(bank.samples.T[:, :8], bank.samples.T[:, 8:], {"Z": bank.targets.T})
    features = torch.cat([1 / torch.arange(1.0, 9.0), torch.ones(6)]).double()
    ranks = run_ranks(2, _rescaled, "one sample")
    gram = torch.cat([each["gram"] for each in ranks], dim=1)
    torch.testing.assert_close(gram, features[:, None] * whole.gram * features)
    rows = torch.arange(1.0, 6.0).double().reciprocal()
    cross = torch.cat([each["cross"] for each in ranks])
    torch.testing.assert_close(cross, rows[:, None] * whole.cross["Z"] * features)
    square = torch.cat([each["square"] for each in ranks])
    torch.testing.assert_close(square, rows.square() * whole.square["Z"])
    assert [int(each["count"]) for each in ranks] == [1, 1]


def test_when_columns_are_split() -> None:
    automatic = ADMMMultiGPUSolver()
    assert not automatic.splits_columns(WHOLE_FEATURES, 8)
    assert automatic.splits_columns(WHOLE_FEATURES + 1, 8)
    assert not automatic.splits_columns(WHOLE_FEATURES + 1, 1)
    assert ADMMMultiGPUSolver(column_blocks="always").splits_columns(10, 2)
    assert not ADMMMultiGPUSolver(column_blocks="never").splits_columns(10**6, 8)
    assert not ADMMSolver().splits_columns(10**6, 8)
