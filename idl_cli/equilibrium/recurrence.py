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
``narrow_picard``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from idl_cli.equilibrium.activations import Activation
from idl_cli.equilibrium.fixed_point import FixedPointResult, SampleMap, SolveStatus
from idl_cli.equilibrium.implicit_gradient import (
    EquilibriumProblem,
    refuse_second_derivative,
    solve_adjoint,
    solve_state,
)
from idl_cli.equilibrium.narrow_picard import as_state_major, select, solve_narrow, state_major
from idl_cli.equilibrium.operators import Operator
from idl_cli.errors import ArgumentError, ShapeError


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
        """Return the rows [start, stop) of every step."""
        bounds = []
        stop = 0
        for size in self.batch_sizes:
            bounds.append((stop, stop + size))
            stop += size
        return bounds

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


class _StateMap(SampleMap):
    """x ↦ φ(Ax + b)."""

    def __init__(self, operator: Operator, offset: Tensor, activation: Activation) -> None:
        self.operator = operator
        self.offset = offset
        self.activation = activation

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        return self.activation.in_place(self.operator.apply(x, self.offset, out))

    def restrict(self, samples: Tensor) -> _StateMap:
        return _StateMap(self.operator, select(self.offset, samples), self.activation)


class _AdjointMap(SampleMap):
    """v ↦ d ⊙ (g + Aᵀv)."""

    def __init__(self, operator: Operator, slopes: Tensor, gradient: Tensor) -> None:
        self.operator = operator
        self.slopes = slopes
        self.gradient = gradient

    def __call__(self, v: Tensor, out: Tensor | None = None) -> Tensor:
        return self.operator.apply_transpose(v, self.gradient, out).mul_(self.slopes)

    def restrict(self, samples: Tensor) -> _AdjointMap:
        return _AdjointMap(
            self.operator, select(self.slopes, samples), select(self.gradient, samples)
        )


def _solve_step(
    problem: EquilibriumProblem, operator: Operator, offset: Tensor, start: Tensor | None
) -> FixedPointResult:
    if operator.nilpotent or problem.forward.method != "picard":
        return solve_state(problem, operator, offset, start)
    if start is None:
        start = problem.activation.function(offset)
    return solve_narrow(_StateMap(operator, offset, problem.activation), start, problem.forward)


def _solve_adjoint_step(
    problem: EquilibriumProblem, operator: Operator, slopes: Tensor, gradient: Tensor
) -> FixedPointResult:
    if operator.nilpotent or problem.backward.method != "picard":
        return solve_adjoint(problem, operator, slopes, gradient)
    scale = gradient.abs().amax(dim=1).add_(torch.finfo(gradient.dtype).tiny)
    settings = problem.backward.fixed_point_settings()
    function = _AdjointMap(operator, slopes, gradient)
    return solve_narrow(function, slopes * gradient, settings, scale=scale)


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
        rows = len(state_offset)
        offsets = state_major(rows, operator.size, state_offset)
        x = state_major(rows, operator.size, state_offset)
        outputs = state_major(rows, initial.shape[1], state_offset)
        h, start = initial, None
        solves: list[FixedPointResult] = []
        for first, last in recurrence.steps():
            before, offset = h[: last - first], offsets[first:last]
            torch.addmm(state_offset[first:last], before, feedback.t(), out=offset)
            if start is not None:
                start = start[: last - first]
            solves.append(_solve_step(problem, operator, offset, start))
            start = x[first:last].copy_(solves[-1].value)
            h = outputs[first:last]
            torch.addmm(output_offset[first:last], start, readout.t(), out=h)
            if direct is not None:
                h.addmm_(before, direct.t())
        if problem.statistics is not None:
            problem.statistics.record_forward(_joined(solves, x))
        ctx.recurrence = recurrence
        ctx.save_for_backward(offsets, x, outputs, initial, feedback, readout, direct, *factors)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        recurrence: Recurrence = ctx.recurrence
        problem = recurrence.problem
        offsets, x, outputs, initial, feedback, readout, direct, *factors = ctx.saved_tensors
        _, for_state, for_output, for_initial, for_feedback, for_readout, for_direct, *for_a = (
            ctx.needs_input_grad
        )
        with torch.no_grad():
            operator = problem.operator_type(*factors)
            slopes = problem.activation.derivative(operator.apply(x, offsets))
            total = as_state_major(gradients[0].clone())
            v, carried = _adjoints(recurrence, operator, slopes, total, feedback, readout, direct)
            previous = _previous(recurrence, outputs, initial)
            pulled = operator.factor_gradients(v, x, for_a)
            results = (
                v if for_state else None,
                total if for_output else None,
                carried if for_initial else None,
                v.t() @ previous if for_feedback else None,
                total.t() @ x if for_readout else None,
                total.t() @ previous if for_direct else None,
                *pulled,
            )
        if torch.is_grad_enabled():
            results = refuse_second_derivative(results)
        return None, *results


def _adjoints(
    recurrence: Recurrence,
    operator: Operator,
    slopes: Tensor,
    total: Tensor,
    feedback: Tensor,
    readout: Tensor,
    direct: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Run backwards through time.

    Args:
        recurrence: layout and settings.
        operator: A.
        slopes: φ′ at every step (rows, n).
        total: ∂loss/∂h of every step's own (rows, h); what comes back through time is added to it.
        feedback: E.
        readout: C.
        direct: F.

    Returns:
        v (rows, n) and ∂loss/∂h_0 (samples, h).
    """
    problem = recurrence.problem
    exact = operator.nilpotent or problem.backward.method != "jacobian_free"
    solves: list[FixedPointResult] = []
    adjoints = state_major(len(total), operator.size, total)
    carried = state_major(recurrence.batch_sizes[0], total.shape[1], total).zero_()
    steps = recurrence.steps()
    for step in range(len(steps) - 1, -1, -1):
        first, last = steps[step]
        gamma, v = total[first:last], adjoints[first:last]
        pulled = torch.mm(gamma, readout, out=state_major(last - first, operator.size, total))
        if exact:
            solves.append(_solve_adjoint_step(problem, operator, slopes[first:last], pulled))
            v.copy_(solves[-1].value)
        else:
            torch.mul(pulled, slopes[first:last], out=v)
        if not recurrence.passes_gradient(step):
            continue
        target = carried if step == 0 else total[slice(*steps[step - 1])]
        target[: last - first].addmm_(v, feedback)
        if direct is not None:
            target[: last - first].addmm_(gamma, direct)
    if solves and problem.statistics is not None:
        problem.statistics.record_backward(_joined(solves[::-1], adjoints))
    return adjoints, carried


def _previous(recurrence: Recurrence, outputs: Tensor, initial: Tensor) -> Tensor:
    """Return h_{t-1} for every row (rows, h)."""
    previous = state_major(len(outputs), outputs.shape[1], outputs)
    previous[: len(initial)] = initial
    steps = recurrence.steps()
    for (before, _), (first, last) in pairwise(steps):
        previous[first:last] = outputs[before : before + last - first]
    return previous


def _joined(solves: list[FixedPointResult], value: Tensor) -> FixedPointResult:
    """Return the solves of all steps as one of this value (rows, n)."""
    return FixedPointResult(
        value,
        torch.cat([solve.iterations for solve in solves]),
        torch.cat([solve.residuals for solve in solves]),
        torch.cat([solve.converged for solve in solves]),
        max((solve.status for solve in solves), key=_SEVERITY.index),
    )


_SEVERITY = (SolveStatus.CONVERGED, SolveStatus.MAX_ITERATIONS, SolveStatus.NON_FINITE)
