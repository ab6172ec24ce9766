"""A x + b by an operator, in the graph of x, b and the operator's factors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from idl_cli.equilibrium.operators.base import Operator
from idl_cli.equilibrium.transforms import transforming


def product(operator: Operator, x: Tensor, offset: Tensor) -> Tensor:
    """Return A x + offset (m, rows), whose backward takes the operator's own products.

    Args:
        operator: A.
        x: (m, columns).
        offset: (m, rows), or (rows,) for all samples alike.
    """
    offset = offset.expand(len(x), -1)
    if transforming():
        return operator.apply(x, offset)
    result: Tensor = _Product.apply(operator.form, x, offset, *operator.factors)  # type: ignore[no-untyped-call]
    return result


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, form: Callable[..., Operator], x: Tensor, offset: Tensor, *factors: Tensor
    ) -> Tensor:
        ctx.form = form
        ctx.save_for_backward(x, *factors)
        return form(*factors).apply(x, offset)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, *factors = ctx.saved_tensors
        gradient, needed = gradients[0], ctx.needs_input_grad
        operator: Operator = ctx.form(*factors)
        into_x = operator.apply_transpose(gradient, torch.zeros_like(x)) if needed[1] else None
        pulled = operator.factor_gradients(gradient, x, needed[3:])
        return None, into_x, gradient if needed[2] else None, *pulled
