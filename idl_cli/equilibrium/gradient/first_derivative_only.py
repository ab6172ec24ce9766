"""Gradients that may be used but not differentiated: those that are approximate on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from idl_cli.errors import ArgumentError


def second_derivative_error(reason: str) -> ArgumentError:
    """Return the error of whoever differentiates an approximate gradient, or asks a tangent."""
    return ArgumentError(
        f"an equilibrium has no second derivative or forward-mode derivative here: {reason}"
    )


def refuse_second_derivative(
    gradients: Sequence[Tensor | None], sources: Sequence[Tensor | None], reason: str
) -> tuple[Tensor | None, ...]:
    """Let ``create_graph=True`` pass, and raise where a second derivative is really taken.

    Args:
        gradients: of a backward, computed without a graph.
        sources: all tensors that they were computed from. They are made the origin of the
            gradients, so that no choice of ``inputs=`` goes around the error.
        reason: why there is none and what to do, a sentence.
    """
    return tuple(
        None if gradient is None else _FirstDerivativeOnly.apply(reason, gradient, *sources)  # type: ignore[no-untyped-call]
        for gradient in gradients
    )


class _FirstDerivativeOnly(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(reason: str, gradient: Tensor, *sources: Tensor | None) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.reason = inputs[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        raise second_derivative_error(ctx.reason)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        raise second_derivative_error(ctx.reason)
