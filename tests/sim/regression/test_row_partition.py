"""What the processes that share rows put together."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.sim.regression.row_partition import RowPartition
from tests.sim.problem_bank import BANK
from tests.sim.ranks import run_ranks

ROWS = torch.arange(15, dtype=torch.float64).reshape(5, 3)


def test_a_problem_that_is_not_split_has_all_rows_to_itself() -> None:
    problem = BANK["one row"].regression
    assert not problem.is_split
    assert problem.partition == RowPartition(Group.single())
    assert problem.gram[:, problem.columns].equal(problem.gram)


def _shared(group: Group) -> tuple[Tensor, Tensor, Tensor, list[object]]:
    partition = RowPartition(group)
    own = partition.own_rows(ROWS)
    flags = partition.whole_rows(own[:, 0] > 4)
    first = group.rank == 0
    verdicts = [
        partition.anywhere(first),
        partition.anywhere(False),
        partition.agreed(first),
        partition.largest(float(own.max())),
        partition.own_state(partition.whole_state({"weights": own}))["weights"].equal(own),
        partition.whole_state({"numbers": own[:1]})["numbers"].equal(own[:1]),
    ]
    return partition.whole_rows(own), flags, partition.total(own.sum(dim=0)), verdicts


@pytest.mark.parametrize("size", [1, 2])
def test_shares_make_up_the_whole(size: int) -> None:
    for whole, flags, sums, verdicts in run_ranks(size, _shared):
        assert whole.equal(ROWS)
        assert flags.equal(ROWS[:, 0] > 4)
        assert sums.equal(ROWS.sum(dim=0))
        assert verdicts == [True, False, True, 14.0, True, True]
