"""A recurrence each of whose steps is an equilibrium, differentiable exactly through time.

At step t, with an input u_t and B = [B_u E], D = [D_u F],

    x_t = φ(A x_t + B_u u_t + E h_{t-1} + b)        h_t = C x_t + D_u u_t + F h_{t-1} + c

The whole sequence is one differentiable function: no graph is recorded inside, memory does not grow
with the iterations, and the input's part of all steps is one matrix product. The gradient runs
backwards through time with one adjoint equation a step: with γ_t = ∂loss/∂h_t (its own part and
what came back from step t+1),

    v_t = φ′(z_t) ⊙ (Cᵀγ_t + Aᵀv_t)                 ∂h_{t-1} += Eᵀv_t + Fᵀγ_t

and the gradients of the weights are sums over steps and samples of vxᵀ, vuᵀ, vhᵀ, γxᵀ, γuᵀ and γhᵀ.

Layout: the rows of all steps stand below each other, step after step. Samples are sorted by length,
longest first, so that those still running at a step are the first ``batch_sizes[t]`` (the layout of
``torch.nn.utils.rnn.PackedSequence``). In memory the tensors inside are state-major, see
``narrow_driver``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from idl_cli.equilibrium.first_derivative_only import second_derivative_error
from idl_cli.equilibrium.operators import Operator
from idl_cli.equilibrium.problem import JACOBIAN_FREE_REASON, EquilibriumProblem
from idl_cli.equilibrium.recurrence.function import RecurrenceFunction
from idl_cli.equilibrium.recurrence.replay import replay
from idl_cli.equilibrium.transforms import transforming
from idl_cli.errors import ArgumentError, ShapeError


@dataclass(frozen=True)
class RecurrenceWeights:
    """The weights of a recurrence.

    Attributes:
        operator: A (n, n).
        B: [B_u E] (n, p + h).
        C: (h, n).
        D: [D_u F] (h, p + h); None for a recurrence without it.
        state_bias: b (n,), or None.
        output_bias: c (h,), or None.
    """

    operator: Operator
    B: Tensor
    C: Tensor
    D: Tensor | None = None
    state_bias: Tensor | None = None
    output_bias: Tensor | None = None


@dataclass(frozen=True)
class Recurrence:
    """Everything of a recurrence but its tensors.

    Args:
        problem: operator type, activation, solver settings and where solves are counted.
        batch_sizes: samples still running at each step, not increasing, the last >= 1.
        truncate: no gradient flows from a step t into the one before where t is a multiple of this
            number; None for the whole sequence.

    Raises:
        ArgumentError: a value is out of range.
    """

    problem: EquilibriumProblem
    batch_sizes: tuple[int, ...]
    truncate: int | None = None

    def __post_init__(self) -> None:
        sizes = self.batch_sizes
        if not sizes or sizes[-1] < 1 or any(a < b for a, b in pairwise(sizes)):
            raise ArgumentError(
                f"batch_sizes={list(sizes)} must hold a whole number >= 1 for each step, and never "
                "grow."
            )
        if self.truncate is not None and self.truncate < 1:
            raise ArgumentError(f"truncate={self.truncate} must be at least 1, or null.")

    def passes_gradient(self, step: int) -> bool:
        """Whether the gradient flows from this step into the one before it."""
        return step == 0 or self.truncate is None or step % self.truncate != 0

    def approximation(self, operator: Operator) -> str | None:
        """Return why the backward is not the derivative, and what to do; None where it is."""
        if self.problem.approximates(operator):
            return JACOBIAN_FREE_REASON
        if all(self.passes_gradient(step) for step in range(len(self.batch_sizes))):
            return None
        return (
            f"truncate={self.truncate} cuts what flows back through the {len(self.batch_sizes)} "
            "steps. Set truncate to null for exact derivatives."
        )

    def final_rows(self, device: torch.device) -> Tensor:
        """Return the row of every sample's last step (samples,)."""
        sizes = torch.tensor(self.batch_sizes)
        sample = torch.arange(self.batch_sizes[0])
        lengths = (sizes[:, None] > sample).sum(dim=0)
        return ((sizes.cumsum(0) - sizes)[lengths - 1] + sample).to(device)


def implicit_recurrence(
    weights: RecurrenceWeights, inputs: Tensor, initial: Tensor, recurrence: Recurrence
) -> tuple[Tensor, Tensor]:
    """Run through time; differentiable in the weights and in both tensors.

    Args:
        weights: A to c.
        inputs: u of every step (rows, p).
        initial: h_0 (samples, h).
        recurrence: layout and settings.

    Returns:
        h of every step (rows, h), and of every sample's last step (samples, h).

    Raises:
        ShapeError: the tensors do not fit together or the layout.
        ArgumentError: a function transform asks for derivatives of a truncated or Jacobian-free
            recurrence, which has approximate gradients only.
    """
    _check_shapes(weights, inputs, initial, recurrence)
    tensors: tuple[Any, ...] = (
        inputs,
        initial,
        weights.B,
        weights.C,
        weights.D,
        weights.state_bias,
        weights.output_bias,
        *weights.operator.factors,
    )
    if transforming():
        reason = recurrence.approximation(weights.operator)
        if reason is not None:
            raise second_derivative_error(reason)
        return replay(recurrence, *tensors)
    outputs, final = RecurrenceFunction.apply(recurrence, *tensors)  # type: ignore[no-untyped-call]
    return outputs, final


def _check_shapes(
    weights: RecurrenceWeights, inputs: Tensor, initial: Tensor, recurrence: Recurrence
) -> None:
    rows, samples = sum(recurrence.batch_sizes), recurrence.batch_sizes[0]
    size, features, width = weights.operator.size, inputs.shape[-1], initial.shape[-1]
    expected = {
        "inputs": (inputs, (rows, features)),
        "initial": (initial, (samples, width)),
        "B": (weights.B, (size, features + width)),
        "C": (weights.C, (width, size)),
        "D": (weights.D, (width, features + width)),
        "state_bias": (weights.state_bias, (size,)),
        "output_bias": (weights.output_bias, (width,)),
    }
    for name, (tensor, shape) in expected.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ShapeError(f"{name} has shape {tuple(tensor.shape)}; expected {shape}.")
