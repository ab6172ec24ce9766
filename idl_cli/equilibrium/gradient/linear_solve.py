"""v = d ⊙ (g + Aᵀv), differentiable in d, g and A any number of times, backward and forward.

For a cotangent w of v, q = d ⊙ (w + A q) is the same equation with A in the place of Aᵀ, and

    ∂g = q,   ∂d = (w + A q) ⊙ (g + Aᵀv),   ∂A = Σ_samples v qᵀ

so that every derivative is a solve again. A tangent obeys
dv = dd ⊙ (g + Aᵀv) + d ⊙ (dg + dAᵀ v + Aᵀ dv).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from idl_cli.equilibrium.operators.base import NilpotentOperator, Operator
from idl_cli.equilibrium.operators.transposed import TransposedOperator
from idl_cli.equilibrium.precision import full_precision
from idl_cli.equilibrium.transforms import backward_rule, forward_rule, over_batch

Solve = Callable[[Operator, Tensor, Tensor], Tensor]
"""Returns v for A, d (m, n) and g (m, n), without a graph."""


def adjoint_solve(solve: Solve, operator: Operator, slopes: Tensor, gradient: Tensor) -> Tensor:
    """Return v = d ⊙ (g + Aᵀv) (m, n) in the graph of d, g and the factors of A.

    Args:
        solve: what solves this equation and those of its derivatives.
        operator: A.
        slopes: d (m, n).
        gradient: g (m, n).
    """
    v: Tensor = _AdjointSolve.apply(solve, operator.form, slopes, gradient, *operator.factors)  # type: ignore[no-untyped-call]
    return v


def tangent_solve(solve: Solve, operator: Operator, slopes: Tensor, tangent: Tensor) -> Tensor:
    """Return q = d ⊙ (w + A q) (m, n) in the graph; arguments as of ``adjoint_solve``, w for g."""
    if not isinstance(operator, NilpotentOperator):
        return adjoint_solve(solve, TransposedOperator(operator), slopes, tangent)
    # With the states in reverse order A is the transpose of an operator of its own type.
    reverse = operator.antitransposed()
    return adjoint_solve(solve, reverse, slopes.flip(1), tangent.flip(1)).flip(1)


class _AdjointSolve(torch.autograd.Function):
    @staticmethod
    def forward(
        solve: Solve,
        form: Callable[..., Operator],
        slopes: Tensor,
        gradient: Tensor,
        *factors: Tensor,
    ) -> Tensor:
        return solve(form(*factors), slopes, gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.solve, ctx.form, slopes, gradient, *factors = inputs
        ctx.save_for_backward(slopes, gradient, output, *factors)
        ctx.save_for_forward(slopes, gradient, output, *factors)

    @staticmethod
    @backward_rule
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        w = gradients[0]
        slopes, gradient, v, *factors = ctx.saved_tensors
        needed = ctx.needs_input_grad
        with full_precision(v.device.type):
            operator: Operator = ctx.form(*factors)
            q = tangent_solve(ctx.solve, operator, slopes, w)
            into_slopes = None
            if needed[2]:
                into_slopes = operator.apply(q, w) * operator.apply_transpose(v, gradient)
            pulled = operator.factor_gradients(v, q, needed[4:])
        return None, None, into_slopes, q if needed[3] else None, *pulled

    @staticmethod
    @forward_rule
    def jvp(ctx: Any, saved: tuple[Tensor, ...], *tangents: Tensor | None) -> Tensor:
        slopes, gradient, v, *factors = saved
        _, _, into_slopes, into_gradient, *into_factors = tangents
        operator: Operator = ctx.form(*factors)
        known = torch.zeros_like(v) if into_gradient is None else into_gradient
        for change in operator.changes(into_factors):
            known = change.apply_transpose(v, known)
        # dv = c + r with c = dd ⊙ (g + Aᵀv) and r = d ⊙ ((known + Aᵀc) + Aᵀr).
        if into_slopes is None:
            return adjoint_solve(ctx.solve, operator, slopes, known)
        changed = into_slopes * operator.apply_transpose(v, gradient)
        known = operator.apply_transpose(changed, known)
        return changed + adjoint_solve(ctx.solve, operator, slopes, known)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        solve: Solve,
        form: Callable[..., Operator],
        slopes: Tensor,
        gradient: Tensor,
        *factors: Tensor,
    ) -> tuple[Tensor, int]:
        def function(slopes: Tensor, gradient: Tensor, *factors: Tensor) -> Tensor:
            return adjoint_solve(solve, form(*factors), slopes, gradient)

        return over_batch(
            function, info.batch_size, (slopes, gradient), in_dims[2:4], factors, in_dims[4:]
        )
