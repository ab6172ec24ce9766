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
from idl_cli.equilibrium.narrow_picard import (
    least_iterations,
    select,
    solve_narrow,
    state_major,
)
from idl_cli.equilibrium.operators import DenseOperator, Operator
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
    problem: EquilibriumProblem,
    operator: Operator,
    offset: Tensor,
    start: Tensor | None,
    first_check: int,
) -> FixedPointResult:
    if operator.nilpotent or problem.forward.method != "picard":
        return solve_state(problem, operator, offset, start)
    if start is None:
        start = problem.activation.function(offset)
    function = _StateMap(operator, offset, problem.activation)
    return solve_narrow(function, start, problem.forward, first_check=first_check)


def _solve_adjoint_step(
    problem: EquilibriumProblem,
    operator: Operator,
    slopes: Tensor,
    gradient: Tensor,
    first_check: int,
) -> FixedPointResult:
    if operator.nilpotent or problem.backward.method != "picard":
        return solve_adjoint(problem, operator, slopes, gradient)
    scale = gradient.abs().amax(dim=1).add_(torch.finfo(gradient.dtype).tiny)
    return solve_narrow(
        _AdjointMap(operator, slopes, gradient),
        slopes * gradient,
        problem.backward.fixed_point_settings(),
        scale=scale,
        first_check=first_check,
    )


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
        first_check = least_iterations(operator, problem.forward.tol)
        offsets = state_major(rows, size, state_offset)
        outputs = state_major(rows, width, state_offset)
        # [x_t, h_{t-1}] side by side, so that both weights of h_t are one product.
        pairs = state_major(rows, size + width, state_offset)
        into_output = _both(readout, direct, dim=1).t()
        into_state = feedback.t()
        h, start = initial, None
        solves: list[FixedPointResult] = []
        for first, last in recurrence.steps():
            samples = last - first
            pair, offset = pairs[first:last], offsets[first:last]
            before = pair[:, size:].copy_(h[:samples])
            torch.addmm(state_offset[first:last], before, into_state, out=offset)
            solve = _solve_step(
                problem, operator, offset, None if start is None else start[:samples], first_check
            )
            solves.append(solve)
            start = pair[:, :size].copy_(solve.value)
            h = outputs[first:last]
            torch.addmm(output_offset[first:last], pair, into_output, out=h)
        if problem.statistics is not None:
            problem.statistics.record_forward(_joined(solves, pairs[:, :size]))
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
            slopes = problem.activation.derivative(operator.apply(x, offsets))
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
    problem, size = recurrence.problem, operator.size
    exact = operator.nilpotent or problem.backward.method != "jacobian_free"
    first_check = least_iterations(operator, problem.backward.tol)
    carried = state_major(recurrence.batch_sizes[0], readout.shape[0], slopes).zero_()
    back = _both(feedback, direct, dim=0)
    solves: list[FixedPointResult] = []
    steps = recurrence.steps()
    for step in range(len(steps) - 1, -1, -1):
        first, last = steps[step]
        pair, slope = adjoints[first:last], slopes[first:last]
        pulled = torch.mm(pair[:, size:], readout, out=state_major(last - first, size, slopes))
        if exact:
            solve = _solve_adjoint_step(problem, operator, slope, pulled, first_check)
            solves.append(solve)
            pair[:, :size] = solve.value
        else:
            torch.mul(pulled, slope, out=pair[:, :size])
        if recurrence.passes_gradient(step):
            target = carried if step == 0 else adjoints[slice(*steps[step - 1]), size:]
            target[: last - first].addmm_(pair, back)
    if solves and problem.statistics is not None:
        problem.statistics.record_backward(_joined(solves[::-1], adjoints[:, :size]))
    return carried


def _both(weight: Tensor, direct: Tensor | None, dim: int) -> Tensor:
    """Return C or E with F beside or below it, zeros for an F that is not there."""
    if direct is None:
        width = weight.shape[1 - dim]
        direct = weight.new_zeros(width, width)
    return torch.cat((weight, direct), dim=dim)


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
