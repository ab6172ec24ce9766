"""A recurrence each of whose steps is an equilibrium, differentiable exactly through time.

At step t, with the part of the offsets that comes from the input given for all steps at once,

    x_t = φ(A x_t + E h_{t-1} + b_t)        h_t = C x_t + F h_{t-1} + c_t

The whole sequence is one differentiable function: no graph is recorded inside, and memory does not
grow with the iterations. The gradient runs backwards through time with one adjoint equation a step:
with γ_t = ∂loss/∂h_t (its own part and what came back from step t+1),

    v_t = φ′(z_t) ⊙ (Cᵀγ_t + Aᵀv_t)         ∂h_{t-1} += Eᵀv_t + Fᵀγ_t

and the gradients of the weights are sums over steps and samples of vxᵀ, vhᵀ, γxᵀ and γhᵀ, each one
matrix product over the whole sequence.

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
from idl_cli.equilibrium.step_solves import AdjointSolves, StateSolves
from idl_cli.errors import ArgumentError, ShapeError

# Values of the states of a chunk of samples: 80 kB in float32; an iteration moves five such arrays.
_CHUNK_VALUES = 20_000


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

    def chunks(self, states: int, device: torch.device) -> list[tuple[int, int]]:
        """Return ranges [low, high) of samples that are run through time one after another.

        On a processor as many as stay in its cache with all they need; the first is the largest.
        """
        samples = self.batch_sizes[0]
        if device.type != "cpu":
            return [(0, samples)]
        most = max(1, _CHUNK_VALUES * torch.get_num_threads() // states)
        most = -(-samples // -(-samples // most))  # equal parts
        return [(low, min(low + most, samples)) for low in range(0, samples, most)]

    def blocks(self, low: int, high: int) -> list[tuple[int, int, int]]:
        """Return each step with the rows [first, last) of the samples [low, high) still running."""
        found = []
        start = 0
        for step, size in enumerate(self.batch_sizes):
            if size <= low:
                break
            found.append((step, start + low, start + min(size, high)))
            start += size
        return found

    def passes_gradient(self, step: int) -> bool:
        """Whether the gradient flows from this step into the one before it."""
        return step == 0 or self.truncate is None or step % self.truncate != 0


def implicit_recurrence(
    operator: Operator,
    state_offset: Tensor,
    output_offset: Tensor,
    initial: Tensor,
    feedback: Tensor,
    readout: Tensor,
    direct: Tensor | None,
    recurrence: Recurrence,
) -> Tensor:
    """Return the outputs h of every step, differentiable in every tensor given.

    Each equilibrium starts from that of the step before, the first from φ of its offset.

    Args:
        operator: A.
        state_offset: b (rows, n), for all steps.
        output_offset: c (rows, h).
        initial: h_0 (samples, h).
        feedback: E (n, h).
        readout: C (h, n).
        direct: F (h, h); None for a recurrence without it.
        recurrence: layout and settings.

    Returns:
        h (rows, h).

    Raises:
        ShapeError: the tensors do not fit the layout.
    """
    rows, samples = sum(recurrence.batch_sizes), recurrence.batch_sizes[0]
    size, width = operator.size, initial.shape[-1]
    expected = {
        "state_offset": (state_offset, (rows, size)),
        "output_offset": (output_offset, (rows, width)),
        "initial": (initial, (samples, width)),
        "feedback": (feedback, (size, width)),
        "readout": (readout, (width, size)),
        "direct": (direct, (width, width)),
    }
    for name, (tensor, shape) in expected.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ShapeError(f"{name} has shape {tuple(tensor.shape)}; expected {shape}.")
    outputs: Tensor = _Recurrence.apply(  # type: ignore[no-untyped-call]
        recurrence,
        state_offset,
        output_offset,
        initial,
        feedback,
        readout,
        direct,
        *operator.factors,
    )
    return outputs


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        recurrence: Recurrence,
        state_offset: Tensor,
        output_offset: Tensor,
        initial: Tensor,
        feedback: Tensor,
        readout: Tensor,
        direct: Tensor | None,
        *factors: Tensor,
    ) -> Tensor:
        problem = recurrence.problem
        operator = problem.operator_type(*factors)
        rows, size, width = len(state_offset), operator.size, initial.shape[1]
        offsets = state_major(rows, size, state_offset)
        outputs = state_major(rows, width, state_offset)
        # [x_t, h_{t-1}] side by side, so that both weights of h_t are one product.
        pairs = state_major(rows, size + width, state_offset)
        into_output = _both(readout, direct, dim=1).t()
        into_state = feedback.t()
        chunks = recurrence.chunks(size, state_offset.device)
        solves = StateSolves(problem, operator, chunks[0][1], state_offset)
        for low, high in chunks:
            h, start = initial[low:high], None
            for _, first, last in recurrence.blocks(low, high):
                samples = last - first
                pair, offset = pairs[first:last], offsets[first:last]
                before = pair[:, size:].copy_(h[:samples])
                torch.addmm(state_offset[first:last], before, into_state, out=offset)
                if start is not None:
                    start = start[:samples]
                start = pair[:, :size].copy_(solves.solve(offset, start))
                h = outputs[first:last]
                torch.addmm(output_offset[first:last], pair, into_output, out=h)
        solves.record(pairs[:, :size])
        ctx.recurrence = recurrence
        ctx.save_for_backward(offsets, pairs, feedback, readout, direct, *factors)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        recurrence: Recurrence = ctx.recurrence
        problem = recurrence.problem
        offsets, pairs, feedback, readout, direct, *factors = ctx.saved_tensors
        _, for_state, for_output, for_initial, *for_weights = ctx.needs_input_grad
        size = offsets.shape[1]
        with torch.no_grad():
            operator = problem.operator_type(*factors)
            x = pairs[:, :size]
            z = operator.apply(x, offsets, state_major(len(pairs), size, pairs))
            slopes = problem.activation.derivative(z)
            # [v_t, γ_t] side by side, like [x_t, h_{t-1}]: the gradients of E, C and F, and of a
            # full A, are the four blocks of one product over the whole sequence.
            adjoints = state_major(len(pairs), pairs.shape[1], pairs)
            adjoints[:, size:] = gradients[0]
            carried = _run_back(recurrence, operator, slopes, adjoints, feedback, readout, direct)
            v, gamma = adjoints[:, :size], adjoints[:, size:]
            blocks = adjoints.t() @ pairs if any(for_weights) else pairs.new_empty(0, 0)
            weights = (blocks[:size, size:], blocks[size:, :size], blocks[size:, size:])
            if isinstance(operator, DenseOperator):
                pulled: tuple[Tensor | None, ...] = (blocks[:size, :size],)
            else:
                pulled = operator.factor_gradients(v, x, for_weights[3:])
            needed = zip(for_weights, (*weights, *pulled), strict=True)
            results = (
                v if for_state else None,
                gamma if for_output else None,
                carried if for_initial else None,
                *(gradient if wanted else None for wanted, gradient in needed),
            )
        if torch.is_grad_enabled():
            results = refuse_second_derivative(results)
        return None, *results


def _run_back(
    recurrence: Recurrence,
    operator: Operator,
    slopes: Tensor,
    adjoints: Tensor,
    feedback: Tensor,
    readout: Tensor,
    direct: Tensor | None,
) -> Tensor:
    """Run backwards through time, and fill in [v, γ] of every step.

    Args:
        recurrence: layout and settings.
        operator: A.
        slopes: φ′ at every step (rows, n).
        adjoints: [v, γ] (rows, n + h), overwritten; γ holds ∂loss/∂h of every step's own, to which
            is added what comes back through time.
        feedback: E.
        readout: C.
        direct: F.

    Returns:
        ∂loss/∂h_0 (samples, h).
    """
    size, samples = operator.size, recurrence.batch_sizes[0]
    carried = state_major(samples, readout.shape[0], slopes).zero_()
    back = _both(feedback, direct, dim=0)
    chunks = recurrence.chunks(size, slopes.device)
    pulled = state_major(chunks[0][1], size, slopes)
    solves = AdjointSolves(recurrence.problem, operator, chunks[0][1], slopes)
    for low, high in chunks:
        blocks = recurrence.blocks(low, high)
        for index in range(len(blocks) - 1, -1, -1):
            step, first, last = blocks[index]
            pair = adjoints[first:last]
            gradient = torch.mm(pair[:, size:], readout, out=pulled[: last - first])
            pair[:, :size] = solves.solve(slopes[first:last], gradient)
            if not recurrence.passes_gradient(step):
                continue
            before = slice(blocks[index - 1][1], None)
            target = carried[low:high] if index == 0 else adjoints[before, size:]
            target[: last - first].addmm_(pair, back)
    solves.record(adjoints[:, :size])
    return carried


def _both(weight: Tensor, direct: Tensor | None, dim: int) -> Tensor:
    """Return C or E with F beside or below it, zeros for an F that is not there."""
    if direct is None:
        width = weight.shape[1 - dim]
        direct = weight.new_zeros(width, width)
    return torch.cat((weight, direct), dim=dim)
