"""x = φ(Ax + b) as a differentiable function, by the implicit function theorem.

With z = Ax + b at the equilibrium, d = φ′(z) and g = ∂loss/∂x, the adjoint state solves
v = d ⊙ (g + Aᵀv) and ∂b = v, ∂A = Σ_samples v xᵀ ([IDL] El Ghaoui et al., SIAM J. Math. Data Sci.
3(3), 2021, arXiv 1908.06315, section 4). Memory does not grow with the iterations.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch
from torch import Tensor

from idl_cli.equilibrium.activations import Activation
from idl_cli.equilibrium.gradient.approximate_adjoint import (
    approximate_adjoint,
    report_error,
    second_derivative_reason,
)
from idl_cli.equilibrium.gradient.first_derivative_only import (
    refuse_second_derivative,
    second_derivative_error,
)
from idl_cli.equilibrium.gradient.linear_solve import adjoint_solve, tangent_solve
from idl_cli.equilibrium.operators import Operator
from idl_cli.equilibrium.precision import full_precision
from idl_cli.equilibrium.problem import (
    EquilibriumProblem,
    solve_adjoint,
    solve_state,
)
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings
from idl_cli.equilibrium.statistics import SolveStatistics
from idl_cli.equilibrium.step_graphs import StepGraphs
from idl_cli.equilibrium.transforms import backward_rule, forward_rule, over_batch, transforming
from idl_cli.errors import ShapeError


def equilibrium(
    operator: Operator,
    offset: Tensor,
    activation: Activation,
    *,
    forward: FixedPointSettings | None = None,
    backward: AdjointSettings | None = None,
    start: Tensor | None = None,
    statistics: SolveStatistics | None = None,
    graphs: StepGraphs | None = None,
) -> Tensor:
    """Return the x with x = φ(Ax + b), differentiable in b and in the operator's factors.

    The solve starts at φ(b), which is f(0). A strictly triangular operator is solved exactly in one
    sweep, whatever ``forward`` and ``backward`` say of methods and tolerances. A solve that does
    not converge returns its last iterate; ``statistics`` counts it and warns.

    Args:
        operator: A.
        offset: b = Bu + bias for every sample (m, n).
        activation: φ.
        forward: how the equilibrium is solved.
        backward: how the adjoint is solved.
        start: first iterates (m, n); no gradient flows to them.
        statistics: where the solves are counted.
        graphs: where a GPU's plain steps are recorded, to be replayed by later solves.

    Returns:
        The equilibria (m, n).

    Raises:
        ShapeError: ``offset`` or ``start`` does not fit the operator.
    """
    if offset.dim() != 2 or offset.shape[1] != operator.size:
        raise ShapeError(
            f"offset has shape {tuple(offset.shape)}; expected (samples, {operator.size})."
        )
    if start is not None and start.shape != offset.shape:
        raise ShapeError(
            f"start has shape {tuple(start.shape)}; expected that of offset, {tuple(offset.shape)}."
        )
    problem = EquilibriumProblem(
        operator.form,
        activation,
        forward or FixedPointSettings(),
        backward or AdjointSettings(),
        statistics,
        graphs=graphs,
    )
    with full_precision(offset.device.type):
        function = _Equilibrium if transforming() else _PlainEquilibrium
        x: Tensor = function.apply(offset, start, problem, *operator.factors)  # type: ignore[no-untyped-call]
    return x


def known_equilibrium(
    problem: EquilibriumProblem, operator: Operator, offset: Tensor, solution: Tensor
) -> Tensor:
    """Return ``solution`` (m, n), differentiable as the x = φ(Ax + b) that it is."""
    x: Tensor = _KnownEquilibrium.apply(offset, solution, problem, *operator.factors)  # type: ignore[no-untyped-call]
    return x


def _solved_adjoint(
    problem: EquilibriumProblem, operator: Operator, slopes: Tensor, gradient: Tensor
) -> Tensor:
    started = time.perf_counter()
    result = solve_adjoint(problem, operator, slopes, gradient)
    if problem.statistics is not None:
        problem.statistics.record_backward(result, time.perf_counter() - started)
    return result.value


def _approximated(
    problem: EquilibriumProblem, operator: Operator, slopes: Tensor, gradient: Tensor
) -> Tensor:
    v = approximate_adjoint(
        slopes * gradient,
        lambda v: operator.apply_transpose(v, gradient) * slopes,
        problem.backward,
    )
    if not transforming():
        report_error(
            problem.statistics,
            problem.backward,
            v,
            lambda: solve_adjoint(problem, operator, slopes, gradient).value,
        )
    return v


class _Equilibrium(torch.autograd.Function):
    @staticmethod
    def forward(
        offset: Tensor, start: Tensor | None, problem: EquilibriumProblem, *factors: Tensor
    ) -> Tensor:
        started = time.perf_counter()
        result = solve_state(problem, problem.form(*factors), offset, start)
        if problem.statistics is not None:
            problem.statistics.record_forward(result, time.perf_counter() - started)
        return result.value

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        offset, _, ctx.problem, *factors = inputs
        ctx.save_for_backward(offset, output, *factors)
        ctx.save_for_forward(offset, output, *factors)

    @staticmethod
    @backward_rule
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        problem: EquilibriumProblem = ctx.problem
        offset, x, *factors = ctx.saved_tensors
        operator = problem.form(*factors)
        approximate, again = problem.approximates(operator), torch.is_grad_enabled()
        with torch.set_grad_enabled(again and not approximate), full_precision(x.device.type):
            if problem.activation.name == "relu" and not again:
                slopes = problem.activation.derivative(x)  # x > 0 where z > 0
            else:
                slopes = problem.activation.derivative(operator.apply(x, offset))
            if approximate:
                v = _approximated(problem, operator, slopes, gradients[0])
            elif again or transforming():
                solve = partial(_solved_adjoint, problem)
                v = adjoint_solve(solve, operator, slopes, gradients[0])
            else:
                v = _solved_adjoint(problem, operator, slopes, gradients[0])
            pulled = operator.factor_gradients(v, x, ctx.needs_input_grad[3:])
        results = (v if ctx.needs_input_grad[0] else None, None, None, *pulled)
        if again and approximate:
            sources = (gradients[0], offset, x, *factors)
            return refuse_second_derivative(
                results, sources, second_derivative_reason(problem.backward)
            )
        return results

    @staticmethod
    @forward_rule
    def jvp(ctx: Any, saved: tuple[Tensor, ...], *tangents: Tensor | None) -> Tensor:
        problem: EquilibriumProblem = ctx.problem
        offset, x, *factors = saved
        into_offset, _, _, *into_factors = tangents
        operator = problem.form(*factors)
        if problem.approximates(operator):
            raise second_derivative_error(second_derivative_reason(problem.backward))
        slopes = problem.activation.derivative(operator.apply(x, offset))
        known = torch.zeros_like(x) if into_offset is None else into_offset
        for change in operator.changes(into_factors):
            known = change.apply(x, known)
        return tangent_solve(partial(_solved_adjoint, problem), operator, slopes, known)

    @classmethod
    def vmap(
        cls,
        info: Any,
        in_dims: tuple[int | None, ...],
        offset: Tensor,
        start: Tensor | None,
        problem: EquilibriumProblem,
        *factors: Tensor,
    ) -> tuple[Tensor, int]:
        def function(offset: Tensor, start: Tensor | None, *factors: Tensor) -> Tensor:
            x: Tensor = cls.apply(offset, start, problem, *factors)  # type: ignore[no-untyped-call]
            return x

        return over_batch(
            function, info.batch_size, (offset, start), in_dims[:2], factors, in_dims[3:]
        )


class _PlainEquilibrium(_Equilibrium):
    """The same for plain tensors: with a setup_context torch inspects a signature at each call."""

    setup_context = torch.autograd.Function.setup_context

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        x = _Equilibrium.forward(*inputs)
        _Equilibrium.setup_context(ctx, inputs, x)
        return x


class _KnownEquilibrium(_Equilibrium):
    """The same where ``start`` is the solution."""

    @staticmethod
    def forward(
        offset: Tensor, start: Tensor | None, problem: EquilibriumProblem, *factors: Tensor
    ) -> Tensor:
        assert start is not None, "the solution is known"
        return start.clone()
