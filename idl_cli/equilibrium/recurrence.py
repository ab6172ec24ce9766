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

from idl_cli.equilibrium.implicit_gradient import EquilibriumProblem, refuse_second_derivative
from idl_cli.equilibrium.narrow_driver import state_major
from idl_cli.equilibrium.operators import DenseOperator, Operator
from idl_cli.equilibrium.precision import without_autocast
from idl_cli.equilibrium.step_solves import AdjointSolves, StateSolves
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

    def steps(self) -> list[tuple[int, int]]:
        """Return the rows [first, last) of every step."""
        bounds = []
        stop = 0
        for size in self.batch_sizes:
            bounds.append((stop, stop + size))
            stop += size
        return bounds

    def passes_gradient(self, step: int) -> bool:
        """Whether the gradient flows from this step into the one before it."""
        return step == 0 or self.truncate is None or step % self.truncate != 0

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
    """
    _check_shapes(weights, inputs, initial, recurrence)
    outputs, final = _Recurrence.apply(  # type: ignore[no-untyped-call]
        recurrence,
        inputs,
        initial,
        weights.B,
        weights.C,
        weights.D,
        weights.state_bias,
        weights.output_bias,
        *weights.operator.factors,
    )
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


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        recurrence: Recurrence,
        inputs: Tensor,
        initial: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        state_bias: Tensor | None,
        output_bias: Tensor | None,
        *factors: Tensor,
    ) -> tuple[Tensor, Tensor]:
        problem = recurrence.problem
        operator = problem.operator_type(*factors)
        rows, features = inputs.shape
        size, samples = operator.size, len(initial)
        offsets = _input_part(B[:, :features], state_bias, inputs)
        outputs = _input_part(
            C.new_zeros(len(C), features) if D is None else D[:, :features], output_bias, inputs
        )
        # [x_t, h_{t-1}] side by side, so that what both add to h_t is one product.
        pairs = state_major(rows, size + len(C), inputs)
        into_output = _beside(C, D, features).t()
        into_state = B[:, features:].t()
        solves = StateSolves(problem, operator, samples, inputs)
        h, x = initial, None
        for first, last in recurrence.steps():
            samples = last - first
            pair, offset = pairs[first:last], offsets[first:last]
            offset.addmm_(pair[:, size:].copy_(h[:samples]), into_state)
            x = pair[:, :size].copy_(solves.solve(offset, None if x is None else x[:samples]))
            h = outputs[first:last].addmm_(pair, into_output)
        solves.record(pairs[:, :size])
        ctx.recurrence = recurrence
        ctx.final_rows = None
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(offsets, pairs, inputs, B, C, D, *factors)
        if samples == len(initial):
            return outputs, h.clone()
        ctx.final_rows = recurrence.final_rows(inputs.device)
        return outputs, outputs.index_select(0, ctx.final_rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        recurrence: Recurrence = ctx.recurrence
        problem = recurrence.problem
        offsets, pairs, inputs, B, C, D, *factors = ctx.saved_tensors
        _, for_inputs, for_initial, for_B, for_C, for_D, *for_rest = ctx.needs_input_grad
        size, features = offsets.shape[1], inputs.shape[1]
        with torch.no_grad(), without_autocast(inputs.device.type):
            operator = problem.operator_type(*factors)
            # [v_t, γ_t] side by side, like [x_t, h_{t-1}]: the gradients of the weights are blocks
            # of one product over the whole sequence.
            adjoints = state_major(len(pairs), pairs.shape[1], pairs)
            v, gamma = adjoints[:, :size], adjoints[:, size:]
            _gather(gamma, gradients[0], gradients[1], ctx.final_rows)
            z = operator.apply(pairs[:, :size], offsets, state_major(len(pairs), size, pairs))
            slopes = problem.activation.derivative(z)
            carried = _run_back(recurrence, operator, slopes, adjoints, (B, C, D), features)
            blocks = adjoints.t() @ pairs
            from_inputs = adjoints.t() @ inputs
            if isinstance(operator, DenseOperator):
                pulled: tuple[Tensor | None, ...] = (blocks[:size, :size],)
            else:
                pulled = operator.factor_gradients(v, pairs[:, :size], for_rest[2:])
            into_inputs = None
            if for_inputs:
                into_inputs = v @ B[:, :features]
                if D is not None:
                    into_inputs.addmm_(gamma, D[:, :features])
            results = (
                into_inputs,
                carried if for_initial else None,
                torch.cat((from_inputs[:size], blocks[:size, size:]), 1) if for_B else None,
                blocks[size:, :size] if for_C else None,
                torch.cat((from_inputs[size:], blocks[size:, size:]), 1) if for_D else None,
                v.sum(dim=0) if for_rest[0] else None,
                gamma.sum(dim=0) if for_rest[1] else None,
                *(g if wanted else None for g, wanted in zip(pulled, for_rest[2:], strict=True)),
            )
        if torch.is_grad_enabled():
            results = refuse_second_derivative(results)
        return None, *results


def _input_part(weight: Tensor, bias: Tensor | None, inputs: Tensor) -> Tensor:
    """Return what the inputs and the offset add at every step (rows, k), state-major."""
    if bias is None:
        return torch.mm(weight, inputs.t()).t()
    return torch.addmm(bias[:, None], weight, inputs.t()).t()


def _beside(C: Tensor, D: Tensor | None, features: int) -> Tensor:
    """Return [C F] (h, n + h), with zeros for an F that is not there."""
    return torch.cat((C, C.new_zeros(len(C), len(C)) if D is None else D[:, features:]), dim=1)


def _gather(
    gamma: Tensor, every: Tensor | None, final: Tensor | None, final_rows: Tensor | None
) -> None:
    """Write ∂loss/∂h of every step's own (rows, h) into γ."""
    if every is None:
        gamma.zero_()
    else:
        gamma.copy_(every)
    if final is None:
        return
    if final_rows is None:
        gamma[-len(final) :].add_(final)
    else:
        gamma.index_add_(0, final_rows, final)


def _run_back(
    recurrence: Recurrence,
    operator: Operator,
    slopes: Tensor,
    adjoints: Tensor,
    weights: tuple[Tensor, Tensor, Tensor | None],
    features: int,
) -> Tensor:
    """Run backwards through time, and fill in [v, γ] of every step.

    Args:
        recurrence: layout and settings.
        operator: A.
        slopes: φ′ at every step (rows, n).
        adjoints: [v, γ] (rows, n + h), overwritten; γ holds ∂loss/∂h of every step's own, to which
            is added what comes back through time.
        weights: B, C and D.
        features: p.

    Returns:
        ∂loss/∂h_0 (samples, h).
    """
    B, C, D = weights
    size, width, samples = operator.size, len(C), recurrence.batch_sizes[0]
    feedback = B[:, features:]
    back = torch.cat((feedback, C.new_zeros(width, width) if D is None else D[:, features:]))
    carried = state_major(samples, width, slopes).zero_()
    pulled = state_major(samples, size, slopes)
    solves = AdjointSolves(recurrence.problem, operator, samples, slopes)
    steps = recurrence.steps()
    for step in range(len(steps) - 1, -1, -1):
        first, last = steps[step]
        pair = adjoints[first:last]
        gradient = torch.mm(pair[:, size:], C, out=pulled[: last - first])
        pair[:, :size] = solves.solve(slopes[first:last], gradient)
        if recurrence.passes_gradient(step):
            target = carried if step == 0 else adjoints[slice(*steps[step - 1]), size:]
            target[: last - first].addmm_(pair, back)
    solves.record(adjoints[:, :size])
    return carried
