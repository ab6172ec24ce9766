"""Shares of a whole: contiguous, balanced, complete."""

import pytest

from idl_cli.distributed.sharding import share
from idl_cli.errors import ArgumentError


@pytest.mark.parametrize(("count", "size"), [(10, 3), (3, 5), (0, 2), (7, 1), (64, 8)])
def test_shares_are_the_whole_in_order_and_balanced(count: int, size: int) -> None:
    items = list(range(count))
    parts = [items[share(count, rank, size)] for rank in range(size)]
    assert [item for part in parts for item in part] == items
    lengths = [len(part) for part in parts]
    assert max(lengths) - min(lengths) <= 1
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize(("count", "rank", "size"), [(3, 2, 2), (3, -1, 2), (-1, 0, 1), (3, 0, 0)])
def test_a_rank_that_is_not_there_is_refused(count: int, rank: int, size: int) -> None:
    with pytest.raises(ArgumentError, match="rank must be from 0"):
        share(count, rank, size)
