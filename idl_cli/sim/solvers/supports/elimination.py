"""Backward elimination of weights by exact updates of the inverse (optimal brain surgeon).

Hassibi and Stork, "Second order derivatives for network pruning", NeurIPS 1992; for one row of a
linear layer: Frantar and Alistarh, arXiv 2208.11580. With w = G⁻¹h and K = G⁻¹ of the weights that
are left, removing weight q raises ½wᵀGw − hᵀw by w_q²/(2K_qq), and leaves

    w ← w − K_:q w_q/K_qq,      K ← K − K_:q K_q:/K_qq.

While many are left several go at once, which is exact for the set that goes: with K_RR = LLᵀ in the
order of their scores, the increments of its members one after another are ½(L⁻¹w_R)². Where few are
left, all rows lose equally many at a time, so that they are one batch of matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.distributed.sharding import share
from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.solvers.supports.shrinking import ShrinkingInverse

ONE_BY_ONE = 128
"""Below this number of weights they go one by one."""

BLOCK_SHARE = 16
"""Above it one in so many goes at a time: which of the first to go goes first hardly matters."""

TOGETHER = 256
"""Above this number of weights each row's inverse is updated by itself."""

COMPACTED = 0.8
"""Share of the rows and columns in use at which the others leave the inverses: moving them costs
more than a step."""

BATCH_BYTES = 256 * 2**20
"""Memory of the inverses that are updated together."""


@dataclass(frozen=True, eq=False)
class EliminationPath:
    """Nested supports of every row, from all weights down to none.

    Attributes:
        order: (rows, D) int64, the weights in the order in which they went; the last k of a row
            are its support of size k.
        increments: (rows, D) float64, what the objective rose by at each removal.
    """

    order: Tensor
    increments: Tensor

    def supports(self, sizes: Tensor) -> Tensor:
        """The supports of given sizes (rows,) as a mask (rows, D)."""
        features = self.order.shape[1]
        place = torch.arange(features, device=self.order.device)
        kept = place >= features - sizes[:, None]
        return torch.zeros_like(kept).scatter_(1, self.order, kept)


@dataclass(frozen=True, eq=False)
class Elimination:
    """A path of elimination and what it is of: it serves every number of non-zeros.

    Attributes:
        gram: G (D, D) with the l2 term.
        cross: H (rows, D).
        ridge: relative to the mean diagonal.
        path: of all rows.
    """

    gram: Tensor
    cross: Tensor
    ridge: float
    path: EliminationPath

    @classmethod
    def of(
        cls, problem: RowRegression, ridge: float, group: Group, known: object = None
    ) -> Elimination:
        """Eliminate, each process a share of the rows; ``known`` where it is of the same problem.

        Args:
            problem: whose rows lose their weights.
            ridge: relative to the mean diagonal of G, > 0.
            group: of processes that hold the same problem; all of them get the whole path.
            known: an elimination that may be returned instead of a new one.
        """
        gram = problem.hessian
        if (
            isinstance(known, Elimination)
            and known.ridge == ridge
            and torch.equal(known.gram, gram)
            and torch.equal(known.cross, problem.cross)
        ):
            return known
        mean = float(gram.diagonal().mean())
        mine = problem.cross[share(problem.rows, group.rank, group.size)]
        path = eliminate(gram, mine, ridge=ridge * mean if mean > 0 else 1.0)
        whole = EliminationPath(group.gather_rows(path.order), group.gather_rows(path.increments))
        return cls(gram, problem.cross, ridge, whole)


def eliminate(gram: Tensor, cross: Tensor, *, ridge: float) -> EliminationPath:
    """Remove the weights of every row one after another, the cheapest first.

    Args:
        gram: G (D, D) float64, positive semi-definite.
        cross: H (rows, D) float64.
        ridge: added to G's diagonal, > 0 where G is singular.

    Raises:
        torch.linalg.LinAlgError: G with the ridge is not positive definite.
    """
    features = gram.shape[0]
    shifted = gram + ridge * torch.eye(features, dtype=gram.dtype, device=gram.device)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(shifted))
    weights = cross @ inverse
    batch = max(1, BATCH_BYTES // (inverse.element_size() * min(features, TOGETHER) ** 2))
    parts = [_eliminate(inverse, each) for each in torch.split(weights, batch)]
    return EliminationPath(
        torch.cat([part.order for part in parts]), torch.cat([part.increments for part in parts])
    )


def _eliminate(inverse: Tensor, weights: Tensor) -> EliminationPath:
    """Remove all weights (rows, D) of rows that share their first inverse (D, D)."""
    rows, features = weights.shape
    every = torch.arange(features, device=weights.device)
    if features <= TOGETHER:
        return _together(inverse.repeat(rows, 1, 1), weights, every.expand(rows, -1))
    small = features
    while small > TOGETHER:
        small -= _at_a_time(small)
    left = (
        inverse.new_empty(rows, small, small),
        weights.new_empty(rows, small),
        every.new_empty(rows, small),
    )
    order, increments, room = [], [], torch.empty_like(inverse)
    for row in range(rows):
        shrinking = ShrinkingInverse(room.copy_(inverse), weights[row].clone(), every.clone())
        removed = []
        while len(shrinking.weights) > small:
            removed.append(shrinking.remove(_at_a_time(len(shrinking.weights))))
        order.append(torch.cat([which for which, _ in removed]))
        increments.append(torch.cat([rise for _, rise in removed]))
        parts = (shrinking.whole(), shrinking.weights, shrinking.alive)
        for whole, part in zip(left, parts, strict=True):
            whole[row] = part
    rest = _together(*left)
    return EliminationPath(
        torch.cat([torch.stack(order), rest.order], dim=1),
        torch.cat([torch.stack(increments), rest.increments], dim=1),
    )


def _at_a_time(left: int) -> int:
    return max(1, min(left // BLOCK_SHARE, left - ONE_BY_ONE))


def _together(inverses: Tensor, weights: Tensor, alive: Tensor) -> EliminationPath:
    """Remove all weights (rows, n) of rows with inverses (rows, n, n), which are overwritten."""
    rows, left = weights.shape
    gone_before = torch.zeros_like(weights, dtype=torch.bool)
    order, increments = [], []
    while left:
        block = _at_a_time(left)
        scores = weights.square() / inverses.diagonal(dim1=1, dim2=2)
        gone = scores.masked_fill_(gone_before, torch.inf).topk(block, dim=1, largest=False).indices
        lines = _rows_of(inverses, gone)
        within = lines.gather(2, gone[:, None].expand(-1, block, -1))
        factor = torch.linalg.cholesky(within)
        half = torch.linalg.solve_triangular(
            factor, weights.gather(1, gone)[..., None], upper=False
        )
        scaled = torch.linalg.solve_triangular(factor, lines, upper=False)
        increments.append(0.5 * half[..., 0].square())
        order.append(alive.gather(1, gone))
        weights = weights - (scaled.mT @ half)[..., 0]
        inverses.baddbmm_(scaled.mT, scaled, alpha=-1)
        gone_before.scatter_(1, gone, True)
        left -= block
        if left <= COMPACTED * alive.shape[1]:
            stay = (~gone_before).nonzero()[:, 1].view(rows, -1)
            alive, weights = alive.gather(1, stay), weights.gather(1, stay)
            inverses = _rows_of(inverses, stay).gather(2, stay[:, None].expand(-1, left, -1))
            gone_before = torch.zeros_like(weights, dtype=torch.bool)
    return EliminationPath(torch.cat(order, dim=1), torch.cat(increments, dim=1))


def _rows_of(matrices: Tensor, index: Tensor) -> Tensor:
    """Rows of a batch of matrices, other ones (batch, k) of each: (batch, k, n)."""
    return matrices.gather(1, index[..., None].expand(-1, -1, matrices.shape[2]))
