"""x = φ(Ax + b) as a differentiable function, by the implicit function theorem.

With z = Ax + b at the equilibrium, d = φ′(z) and g = ∂loss/∂x, the adjoint state solves
v = d ⊙ (g + Aᵀv) and ∂b = v, ∂A = Σ_samples v xᵀ ([IDL] El Ghaoui et al., SIAM J. Math. Data Sci.
3(3), 2021, arXiv 1908.06315, section 4). Memory does not grow with the iterations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from idl_cli.equilibrium import back_substitution
from idl_cli.equilibrium.activations import Activation
from idl_cli.equilibrium.fixed_point import (
    FixedPointResult,
    FixedPointSettings,
    SampleMap,
    SolveStatus,
    solve_fixed_point,
)
from idl_cli.equilibrium.operators import Operator
from idl_cli.equilibrium.precision import without_autocast
from idl_cli.equilibrium.residual import SummedAdjoints, SummedStates, relative_residual
from idl_cli.equilibrium.statistics import SolveStatistics
from idl_cli.errors import ArgumentError, ShapeError

AdjointMethodName = Literal["picard", "anderson", "jacobian_free"]


@dataclass(frozen=True)
class AdjointSettings:
    """How the gradient of an equilibrium is computed.

    Args:
        method: ``picard`` or ``anderson`` solve the adjoint equation to ``tol``: the exact
            gradient. ``jacobian_free`` takes v = d ⊙ g, as if the last iteration were the only
            one: cheaper and inexact (Fung et al., AAAI 2022, arXiv 2103.12803).
        max_iter: most evaluations, >= 1.
        tol: largest ‖d ⊙ (g + Aᵀv) − v‖∞ / ‖g‖∞ of a converged sample, > 0.
        window: past steps that Anderson mixes, >= 1.
        regularization: Tikhonov weight of Anderson's least squares, relative to its trace, >= 0.

    Raises:
        ArgumentError: a value is out of range.
    """

    method: AdjointMethodName = "picard"
    max_iter: int = 500
    tol: float = 1e-5
    window: int = 5
    regularization: float = 1e-8

    def __post_init__(self) -> None:
        allowed = get_args(AdjointMethodName)
        if self.method not in allowed:
            raise ArgumentError(
                f"method={self.method!r} is not known: choose one of {', '.join(allowed)}."
            )
        self.fixed_point_settings()

    def fixed_point_settings(self) -> FixedPointSettings:
        """Return the settings of the adjoint solve (checked)."""
        return FixedPointSettings(
            method="picard" if self.method == "jacobian_free" else self.method,
            max_iter=self.max_iter,
            tol=self.tol,
            window=self.window,
            regularization=self.regularization,
        )


@dataclass(frozen=True)
class EquilibriumProblem:
    """Everything of an equilibrium but its tensors."""

    operator_type: type[Operator]
    activation: Activation
    forward: FixedPointSettings
    backward: AdjointSettings
    statistics: SolveStatistics | None


def equilibrium(
    operator: Operator,
    offset: Tensor,
    activation: Activation,
    *,
    forward: FixedPointSettings | None = None,
    backward: AdjointSettings | None = None,
    start: Tensor | None = None,
    statistics: SolveStatistics | None = None,
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
        type(operator),
        activation,
        forward or FixedPointSettings(),
        backward or AdjointSettings(),
        statistics,
    )
    with without_autocast(offset.device.type):
        x: Tensor = _Equilibrium.apply(offset, start, problem, *operator.factors)  # type: ignore[no-untyped-call]
    return x


class _StateMap(SampleMap, SummedStates):
    """x ↦ φ(Ax + b)."""

    def __init__(self, operator: Operator, offset: Tensor, activation: Activation) -> None:
        self.operator = operator
        self.inflow = offset
        self.activation = activation

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        return self.activation.in_place(self.operator.apply(x, self.inflow, out))

    def restrict(self, samples: Tensor) -> _StateMap:
        return _StateMap(self.operator, self.inflow.index_select(0, samples), self.activation)


class _AdjointMap(SampleMap, SummedAdjoints):
    """v ↦ d ⊙ (g + Aᵀv)."""

    def __init__(self, operator: Operator, slopes: Tensor, gradient: Tensor) -> None:
        self.operator = operator
        self.slopes = slopes
        self.gradient = gradient
        self.inflow = slopes * gradient

    def __call__(self, v: Tensor, out: Tensor | None = None) -> Tensor:
        return self.operator.apply_transpose(v, self.gradient, out).mul_(self.slopes)

    def restrict(self, samples: Tensor) -> _AdjointMap:
        return _AdjointMap(
            self.operator,
            self.slopes.index_select(0, samples),
            self.gradient.index_select(0, samples),
        )


def solve_state(
    problem: EquilibriumProblem, operator: Operator, offset: Tensor, start: Tensor | None
) -> FixedPointResult:
    """Solve x = φ(Ax + b) without a graph: exactly where A is nilpotent, else iteratively.

    Args:
        problem: activation and settings.
        operator: A.
        offset: b (m, n).
        start: first iterates (m, n); φ(b) where it is None.
    """
    function = _StateMap(operator, offset, problem.activation)
    if operator.nilpotent:
        x = back_substitution.solve_state(operator.factors[0], offset, problem.activation)
        return _exact_result(x, function(x))
    if start is None:
        start = problem.activation.function(offset)
    return solve_fixed_point(function, start, problem.forward)


def solve_adjoint(
    problem: EquilibriumProblem, operator: Operator, slopes: Tensor, gradient: Tensor
) -> FixedPointResult:
    """Solve v = d ⊙ (g + Aᵀv) without a graph.

    Args:
        problem: settings.
        operator: A.
        slopes: d = φ′(z) (m, n).
        gradient: g (m, n).
    """
    function = _AdjointMap(operator, slopes, gradient)
    scale = gradient.abs().amax(dim=1).add_(torch.finfo(gradient.dtype).tiny)
    if operator.nilpotent:
        v = back_substitution.solve_adjoint(operator.factors[0], slopes, gradient)
        return _exact_result(v, function(v), scale)
    settings = problem.backward.fixed_point_settings()
    return solve_fixed_point(function, function.inflow, settings, scale=scale)


def _exact_result(value: Tensor, image: Tensor, scale: Tensor | None = None) -> FixedPointResult:
    """Return the result of one exact sweep; its residual is rounding, or NaN."""
    residuals, _ = relative_residual(value, image, 0, scale=scale)
    converged = residuals.isfinite()
    iterations = torch.ones(len(value), dtype=torch.int64, device=value.device)
    status = SolveStatus.CONVERGED if bool(converged.all()) else SolveStatus.NON_FINITE
    return FixedPointResult(value, iterations, residuals, converged, status)


class _Equilibrium(torch.autograd.Function):
    # A separate setup_context would have torch inspect the signature at every call.
    @staticmethod
    def forward(
        ctx: Any,
        offset: Tensor,
        start: Tensor | None,
        problem: EquilibriumProblem,
        *factors: Tensor,
    ) -> Tensor:
        result = solve_state(problem, problem.operator_type(*factors), offset, start)
        if problem.statistics is not None:
            problem.statistics.record_forward(result)
        ctx.problem = problem
        ctx.save_for_backward(offset, result.value, *factors)
        return result.value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        problem: EquilibriumProblem = ctx.problem
        offset, x, *factors = ctx.saved_tensors
        with torch.no_grad(), without_autocast(x.device.type):
            operator = problem.operator_type(*factors)
            slopes = problem.activation.derivative(operator.apply(x, offset))
            if problem.backward.method == "jacobian_free" and not operator.nilpotent:
                v = slopes * gradients[0]
            else:
                result = solve_adjoint(problem, operator, slopes, gradients[0])
                if problem.statistics is not None:
                    problem.statistics.record_backward(result)
                v = result.value
            pulled = operator.factor_gradients(v, x, ctx.needs_input_grad[3:])
        outputs = (v if ctx.needs_input_grad[0] else None, None, None, *pulled)
        if torch.is_grad_enabled():
            return refuse_second_derivative(outputs)
        return outputs


def refuse_second_derivative(gradients: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    """Let ``create_graph=True`` pass, and raise where a second derivative is really taken."""
    marker = torch.empty(0, requires_grad=True)
    return tuple(
        None if gradient is None else _FirstDerivativeOnly.apply(gradient, marker)  # type: ignore[no-untyped-call]
        for gradient in gradients
    )


class _FirstDerivativeOnly(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor, marker: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        raise ArgumentError(
            "an equilibrium has no second derivative here: its gradient is computed by the "
            "implicit function theorem without a graph. Call backward without create_graph=True, "
            "or differentiate through unrolled iterations instead."
        )
