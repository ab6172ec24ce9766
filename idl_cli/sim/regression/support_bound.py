"""A lower bound on the error of the best support, from the dense fit.

With K = G⁻¹ and the dense solution w, setting the weights of R to zero raises the objective by
½ w_Rᵀ K_RR⁻¹ w_R (Hassibi and Stork, NeurIPS 1992). In the unit-diagonal form of K the largest
eigenvalue of any K_RR is at most that of K, μ, so that the increase is at least
Σ_R w_j²/(2μK_jj): for R of D − k weights, at least the sum of the D − k smallest of these. Where
offsets have been taken out of the sums, the constant's weight stands for them and is not counted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from idl_cli.sim.regression.problem import RowRegression

_RESOLVED = 1e-12
"""Smallest eigenvalue of the unit-diagonal G, relative to the largest, that is no round-off."""


def support_bound(problem: RowRegression) -> Tensor:
    """Lower bounds (rows,) float64 on the error of any ``problem.nonzeros`` weights a row.

    A budget can only raise the error, and is left out. Where G is singular in float64 the bound is
    the error of the dense fit, which lies below that of any support.
    """
    assert problem.nonzeros is not None
    inner = problem.accurate
    deviation = inner.feature_squares.clamp(min=0).sqrt()
    seen = (deviation > 0).nonzero()[:, 0]
    if len(seen) == 0:
        return problem.target_square / 2
    unit = deviation[seen]
    gram = inner.hessian[seen][:, seen] / unit[:, None] / unit
    cross = inner.cross[:, seen] / unit
    values, vectors = torch.linalg.eigh(gram)
    kept = values > _RESOLVED * values[-1]
    rotated = cross @ vectors[:, kept]
    fitted = rotated / values[kept]
    # What float64 loses of H comes back times the weights, and must not raise the bound.
    lost = cross.norm(dim=1) * fitted.abs().sum(dim=1) + inner.target_square
    rounding = len(seen) * torch.finfo(torch.float64).eps * lost
    explained = (rotated * fitted).sum(dim=1)
    dense: Tensor = 0.5 * (inner.target_square - explained) - rounding
    if not bool(kept.all()):
        return dense.clamp(min=0)
    inverse = (vectors / values) @ vectors.T
    scores = (fitted @ vectors.T).square() / inverse.diagonal()
    scale = inverse.diagonal().rsqrt()
    largest = torch.linalg.eigvalsh(inverse * scale[:, None] * scale)[-1]
    if problem.shift is not None:
        scores = scores[:, seen != problem.shift.constant]
    removed = (scores.shape[1] - problem.nonzeros).clamp(min=0)
    smallest_first = scores.sort(dim=1).values.cumsum(dim=1)
    padded = torch.cat([torch.zeros_like(dense)[:, None], smallest_first], dim=1)
    bound: Tensor = dense + padded.gather(1, removed[:, None])[:, 0] / (2 * largest)
    return bound.clamp(min=0)
