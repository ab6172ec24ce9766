"""A recurrence each of whose steps is an equilibrium, differentiable exactly through time.

At step t, with an input u_t and B = [B_u E], D = [D_u F],

    x_t = φ(A x_t + B_u u_t + E h_{t-1} + b)        h_t = C x_t + D_u u_t + F h_{t-1} + c

The whole sequence is one differentiable function: no graph is recorded inside, memory does not grow
with the iterations, and the input's part of all steps is one matrix product. The gradient runs
backwards through time with one adjoint equation a step: with γ_t = ∂loss/∂h_t (its own part and
what came back from step t+1),

    v_t = φ′(z_t) ⊙ (Cᵀγ_t + Aᵀv_t)                 ∂h_{t-1} += Eᵀv_t + Fᵀγ_t

and the gradients of the weights are sums over steps and samples of vxᵀ, vuᵀ, vhᵀ, γxᵀ, γuᵀ and γhᵀ.

The rows of the steps lie as ``layout`` says.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from idl_cli.equilibrium.gradient.first_derivative_only import second_derivative_error
from idl_cli.equilibrium.recurrence.function import RecurrenceFunction
from idl_cli.equilibrium.recurrence.layout import Recurrence, RecurrenceWeights
from idl_cli.equilibrium.recurrence.replay import replay
from idl_cli.equilibrium.transforms import transforming
from idl_cli.errors import ShapeError


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
