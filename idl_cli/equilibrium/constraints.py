"""‖A‖∞ ≤ κ: the Euclidean projection of every row on the l1 ball.

‖A‖∞ is the largest l1 norm of a row, so the projection acts row by row: a row inside the ball is
left as it is, however far outside another one lies. (Dividing all of A by its norm is another map.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from idl_cli.errors import ArgumentError


def row_l1_norms(matrix: Tensor) -> Tensor:
    """Return the l1 norms of the rows of a matrix (rows, columns), in float64 (rows,).

    Summed in float64 whatever the dtype, so that a stored float32 row is judged by the numbers it
    holds and not by the rounding of their sum.
    """
    return matrix.detach().abs().sum(dim=1, dtype=torch.float64)


def project_rows_l1(matrix: Tensor, radius: float) -> Tensor:
    """Project every row on the l1 ball: argmin ½‖w − a‖² subject to ‖w‖₁ ≤ radius.

    Differentiable: the gradient passes unchanged through rows with ‖a‖₁ ≤ radius; beyond, it is the
    projection's own Jacobian, on the support S of the projected row with its signs s,
    g ↦ g_S − s (sᵀg_S)/|S|, and zero elsewhere.

    Args:
        matrix: rows a (rows, columns), any floating dtype.
        radius: of the ball, > 0.

    Returns:
        The projected matrix; ``matrix`` itself where every row lies in the ball.

    Raises:
        ArgumentError: the radius is not positive, or the matrix is not a floating 2-D tensor.
    """
    if not radius > 0:
        raise ArgumentError(f"radius={radius} of the l1 ball must be positive.")
    if matrix.dim() != 2 or not matrix.is_floating_point():
        raise ArgumentError(
            f"a floating matrix is projected, not {matrix.dtype} of shape {tuple(matrix.shape)}."
        )
    # In training the stored rows lie in the ball already: the sort is skipped.
    if not bool((row_l1_norms(matrix) > radius).any()):
        return matrix
    projected: Tensor = _RowProjection.apply(matrix, radius)  # type: ignore[no-untyped-call]
    return projected


@torch.no_grad()
def project_rows_l1_(matrix: Tensor, radius: float) -> Tensor:
    """Project the rows of a stored matrix in place, so that every stored row has norm ≤ radius.

    Rounding the projection to the matrix's dtype can overshoot the ball by a few units in the last
    place; such rows are shrunk by as much. The norms of what is stored, summed in float64, obey the
    bound exactly.

    Args:
        matrix: rows (rows, columns), any floating dtype; overwritten.
        radius: of the ball, > 0.

    Returns:
        ``matrix``.
    """
    outside = row_l1_norms(matrix) > radius
    if not bool(outside.any()):
        return matrix
    indices = outside.nonzero().squeeze(1)
    rows = _project(matrix.index_select(0, indices), radius)
    norms = row_l1_norms(rows)
    slack = 1 - 2 * torch.finfo(rows.dtype).eps
    scale = torch.where(norms > radius, radius * slack / norms, torch.ones_like(norms))
    return matrix.index_copy_(0, indices, (rows * scale[:, None]).to(rows.dtype))


def _project(matrix: Tensor, radius: float) -> Tensor:
    # With d_j = max|a| − |a_j| ascending, the k largest entries survive, k the largest index with
    # radius + Σ_{i≤k} d_i > k d_k, and w_j = sign(a_j) max(t − d_j, 0) with the level
    # t = (radius + Σ_{i≤k} d_i) / k. (Held, Wolfe and Crowder 1974; Duchi et al., ICML 2008.)
    # Measuring from the largest entry
    # keeps the radius from being lost when entries are larger than it by 1/eps and more.
    magnitude = matrix.abs()
    distance = magnitude.amax(dim=1, keepdim=True) - magnitude
    ascending = distance.sort(dim=1).values
    total = ascending.cumsum(dim=1) + radius
    counts = torch.arange(1, matrix.shape[1] + 1, dtype=matrix.dtype, device=matrix.device)
    support_size = (total > counts * ascending).sum(dim=1, keepdim=True).clamp(min=1)
    level = total.gather(1, support_size - 1) / support_size
    projected = (level - distance).clamp(min=0) * matrix.sign()
    inside = (row_l1_norms(matrix) <= radius)[:, None]
    return torch.where(inside, matrix, projected)


class _RowProjection(torch.autograd.Function):
    """The projection with its own Jacobian; the backward is linear, so it differentiates again."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, radius: float) -> Tensor:
        projected = _project(matrix, radius)
        ctx.save_for_backward(matrix, projected)
        ctx.radius = radius
        return projected

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0]
        matrix, projected = ctx.saved_tensors
        inside = (row_l1_norms(matrix) <= ctx.radius)[:, None]
        signs = projected.sign()
        support_size = signs.abs().sum(dim=1, keepdim=True).clamp(min=1)
        along = (signs * gradient).sum(dim=1, keepdim=True) / support_size
        beyond = signs.abs() * gradient - signs * along
        return torch.where(inside, gradient, beyond), None
