"""‖A‖∞ ≤ κ: the Euclidean projection of every row on the l1 ball.

‖A‖∞ is the largest l1 norm of a row, so the projection acts row by row: a row inside the ball is
left as it is, however far outside another one lies. (Dividing all of A by its norm is another map.)
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from idl_cli.equilibrium.transforms import backward_rule, forward_rule, transforming
from idl_cli.errors import ArgumentError


def row_l1_norms(matrix: Tensor) -> Tensor:
    """Return the l1 norms of the rows of a matrix (rows, columns), in float64 (rows,).

    Summed in float64 whatever the dtype, so that a stored float32 row is judged by the numbers it
    holds and not by the rounding of their sum.
    """
    return matrix.detach().abs().sum(dim=1, dtype=torch.float64)


def within_rounding(radius: float, dtype: torch.dtype) -> float:
    """Return the largest norm of a row on the ball once it is rounded to ``dtype``.

    In half precision, whose rounding would take a row far beyond the ball, the radius itself.
    """
    finfo = torch.finfo(dtype)
    return radius if finfo.bits < 32 else radius * (1 + 4 * finfo.eps)


def project_rows_l1(matrix: Tensor, radius: float) -> Tensor:
    """Project every row on the l1 ball: argmin ½‖w − a‖² subject to ‖w‖₁ ≤ radius.

    Every row of the result that was projected, summed in float64, obeys the bound exactly.
    Differentiable: the gradient passes unchanged through rows with ‖a‖₁ ≤ radius, among which rows
    count that only their rounding takes beyond. Farther out it is the projection's own Jacobian: on
    the support S of the projected row with its signs s, g ↦ g_S − s (sᵀg_S)/|S|, zero elsewhere.

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
    # In training the stored rows lie in the ball already.
    if not transforming() and bool(_inside(matrix, row_l1_norms(matrix), radius).all()):
        return matrix
    projected: Tensor = _RowProjection.apply(matrix, radius)  # type: ignore[no-untyped-call]
    return projected


@torch.no_grad()
def project_rows_l1_(matrix: Tensor, radius: float) -> Tensor:
    """Project the rows of a stored matrix in place, so that every stored row has norm ≤ radius.

    Args:
        matrix: rows (rows, columns), any floating dtype; overwritten.
        radius: of the ball, > 0.

    Returns:
        ``matrix``.
    """
    norms = row_l1_norms(matrix)
    indices = (norms > radius).nonzero().squeeze(1)
    if not len(indices):
        return matrix
    if len(indices) == len(matrix):
        return matrix.copy_(_project_within(matrix, norms, radius))
    rows, norms = matrix.index_select(0, indices), norms.index_select(0, indices)
    return matrix.index_copy_(0, indices, _project_within(rows, norms, radius))


def _project_within(rows: Tensor, norms: Tensor, radius: float) -> Tensor:
    """Project rows that lie beyond the ball, of these norms, and round them to the inside of it.

    Rounding the projection can overshoot the ball by a few units in the last place: such rows
    are shrunk by as much. In half precision it is computed in float32 (sums over a row would
    otherwise be off by more than the radius) and every entry rounded toward zero.
    """
    half = torch.finfo(rows.dtype).bits < 32
    wide = rows.float() if half else rows
    # Shrinking keeps small entries to all their digits, where the projection subtracts from each.
    rounded_out = norms <= within_rounding(radius, wide.dtype)
    projected = _project(wide, radius)
    if bool(rounded_out.any()):
        projected = torch.where(rounded_out[:, None], wide, projected)
    within, norms = projected, row_l1_norms(projected)
    beyond = (norms > radius).nonzero().squeeze(1)
    if len(beyond):
        shrunk = radius * (1 - 2 * torch.finfo(within.dtype).eps) / norms[beyond]
        kept = within.index_select(0, beyond).double().mul_(shrunk[:, None])
        within.index_copy_(0, beyond, kept.to(within.dtype))
    if not half:
        return within
    rounded = within.to(rows.dtype)
    away = (rounded.float().abs() > within.abs()).to(torch.int16)
    # The bits of a float are a sign and a magnitude: one less is the next value toward zero.
    return (rounded.view(torch.int16) - away).view(rows.dtype)


def _project(rows: Tensor, radius: float) -> Tensor:
    """Project rows that lie beyond the ball."""
    # With d_j = max|a| − |a_j|, the projection is sign(a_j) max(t − d_j, 0), where the level t
    # solves t = (radius + Σ_S d) / |S| on its own support S = {d < t}. Shrinking a superset of S
    # by that formula ends at S (Michelot, JOTA 50, 1986); it takes a few passes where a sort takes
    # as long as ten. Since t ≤ radius, distances may be cut at the radius: nothing is then so large
    # that the radius would be lost beside it.
    magnitude = rows.abs()
    distance = magnitude.amax(dim=1, keepdim=True).sub(magnitude)
    near = distance.clamp(max=radius)
    level = near.mean(dim=1, keepdim=True).add_(radius / rows.shape[1])
    support = torch.empty_like(near)
    total = math.inf
    while True:
        torch.lt(near, level, out=support)
        sizes = support.sum(dim=1, keepdim=True)
        previous, total = total, float(sizes.sum())
        if not total < previous:
            break
        level = support.mul_(near).sum(dim=1, keepdim=True).add_(radius).div_(sizes)
    # No entry grows: rounding of the level must not fill zeros.
    projected = torch.sub(level, distance, out=near).clamp_(min=0)
    return torch.minimum(projected, magnitude, out=projected).copysign_(rows)


def _inside(matrix: Tensor, norms: Tensor, radius: float) -> Tensor:
    return (norms <= within_rounding(radius, matrix.dtype))[:, None]


class _RowProjection(torch.autograd.Function):
    """The projection with its own Jacobian; the backward is linear, so it differentiates again."""

    @staticmethod
    def forward(matrix: Tensor, radius: float) -> Tensor:
        norms = row_l1_norms(matrix)
        inside = _inside(matrix, norms, radius)
        return torch.where(inside, matrix, _project_within(matrix, norms, radius))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        matrix, radius = inputs
        inside = _inside(matrix, row_l1_norms(matrix), radius)
        ctx.save_for_backward(inside, output)
        ctx.save_for_forward(inside, output)

    @staticmethod
    @backward_rule
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        inside, projected = ctx.saved_tensors
        return _apply_jacobian(inside, projected, gradients[0]), None

    @staticmethod
    @forward_rule
    def jvp(ctx: Any, saved: tuple[Tensor, ...], *tangents: Tensor) -> Tensor:
        inside, projected = saved
        return _apply_jacobian(inside, projected, tangents[0])

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], matrix: Tensor, radius: float
    ) -> tuple[Tensor, int]:
        assert in_dims[0] is not None, "of two arguments one is a tensor"
        rows = matrix.movedim(in_dims[0], 0)
        projected: Tensor = _RowProjection.apply(rows.flatten(0, 1), radius)  # type: ignore[no-untyped-call]
        return projected.view_as(rows), 0


def _apply_jacobian(inside: Tensor, projected: Tensor, vectors: Tensor) -> Tensor:
    """Apply the projection's Jacobian, which is symmetric, to a vector for every row."""
    signs = projected.sign()
    support_size = signs.abs().sum(dim=1, keepdim=True).clamp(min=1)
    along = (signs * vectors).sum(dim=1, keepdim=True) / support_size
    beyond = signs.abs() * vectors - signs * along
    return torch.where(inside, vectors, beyond)
