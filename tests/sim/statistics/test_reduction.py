"""Sums over processes: of tensors as they are, of symmetric matrices by their upper triangle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.sim.statistics.reduction import sum_over_group
from idl_cli.sim.statistics.symmetric import mirror_
from tests.sim.ranks import run_ranks

SIZES = (1, 127, 128, 129, 300)


def _share(rank: int) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(rank)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    roots = [normal(size, size) for size in SIZES]
    return [normal(3, 4), normal(1)], [root @ root.T for root in roots]


@dataclass(frozen=True)
class _CountingGroup(Group):
    """Counts the numbers it sends."""

    sent: list[int] = field(default_factory=list)

    def all_reduce_sum_(self, tensors: Sequence[Tensor]) -> None:
        self.sent.extend(tensor.numel() for tensor in tensors)
        super().all_reduce_sum_(tensors)


def _summed(group: Group) -> tuple[list[Tensor], list[Tensor], list[int]]:
    counting = _CountingGroup(**vars(group))
    tensors, symmetric = _share(group.rank)
    sum_over_group(counting, tensors, symmetric=symmetric)
    for matrix in symmetric:
        mirror_(matrix)
    return tensors, symmetric, counting.sent


def test_sums_are_those_of_all_shares_and_the_same_everywhere() -> None:
    ranks = run_ranks(2, _summed)
    shares = [_share(rank) for rank in range(2)]
    for kind in (0, 1):
        for index, (first, second) in enumerate(zip(ranks[0][kind], ranks[1][kind], strict=True)):
            assert torch.equal(first, second)
            expected = shares[0][kind][index] + shares[1][kind][index]
            torch.testing.assert_close(first, expected, rtol=1e-13, atol=1e-12)
    whole = sum(size * size for size in SIZES)
    assert len(ranks[0][2]) == 1
    assert sum(ranks[0][2]) < 0.9 * whole


def test_alone_nothing_changes() -> None:
    tensors, symmetric = _share(0)
    sum_over_group(Group.single(), tensors, symmetric=symmetric)
    for mine, theirs in zip([*tensors, *symmetric], [*_share(0)[0], *_share(0)[1]], strict=True):
        assert torch.equal(mine, theirs)
