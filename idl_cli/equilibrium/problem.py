"""What A and φ of an equilibrium are, and how it and its adjoint are solved without a graph."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from idl_cli.equilibrium.activations import Activation
from idl_cli.equilibrium.fixed_point import SampleMap, solve_fixed_point
from idl_cli.equilibrium.iterations.linearised import Linearised
from idl_cli.equilibrium.iterations.modes import Modes
from idl_cli.equilibrium.iterations.spectrum import Spectrum
from idl_cli.equilibrium.operators.base import NilpotentOperator, Operator, structure_of
from idl_cli.equilibrium.residual import (
    Change,
    SummedAdjoints,
    SummedStates,
    adjoint_scale,
    select,
)
from idl_cli.equilibrium.result import FixedPointResult, SolveStatus
from idl_cli.equilibrium.settings import (
    APPROXIMATE,
    AdjointSettings,
    FixedPointSettings,
    of_known_equation,
)
from idl_cli.equilibrium.statistics import SolveStatistics
from idl_cli.equilibrium.step_graphs import RecordedSteps, StepGraphs


@dataclass(frozen=True)
class EquilibriumProblem:
    """Everything of an equilibrium but its tensors.

    Attributes:
        form: what makes the operator of its factors.
        activation: φ.
        forward: how the equilibrium is solved.
        backward: how the adjoint is solved.
        statistics: where the solves are counted.
        spectrum: what is known of A.
        graphs: where plain steps are recorded; None to launch every kernel by itself.

    Raises:
        ArgumentError: an adjoint is asked for that only other equations have.
    """

    form: Callable[..., Operator]
    activation: Activation
    forward: FixedPointSettings
    backward: AdjointSettings
    statistics: SolveStatistics | None
    spectrum: Spectrum = field(default_factory=Spectrum, compare=False, repr=False)
    graphs: StepGraphs | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        of_known_equation(self.backward)

    def bare(self) -> EquilibriumProblem:
        """Return the same without what is known of A, counted or recorded."""
        return replace(self, statistics=None, spectrum=Spectrum(), graphs=None)

    def approximates(self, operator: Operator) -> bool:
        """Whether the backward is not the derivative; for a nilpotent A it always is."""
        return self.backward.method in APPROXIMATE and not operator.nilpotent


class _MapOf(SampleMap, Linearised):
    """A map with A, or its transpose, as its linear part."""

    problem: EquilibriumProblem
    operator: Operator
    _whole: bool = True  # until some of its samples are finished
    _steps: RecordedSteps | None = None

    @property
    @abstractmethod
    def tensors(self) -> tuple[Tensor, ...]:
        """What the map is made of: two of each sample (m, n), or one, and A's factors."""

    @property
    @abstractmethod
    def form(self) -> Callable[[Sequence[Tensor]], _MapOf]:
        """What makes the map of other tensors; it holds none of this one's."""

    @property
    def structure(self) -> Hashable:
        """All but the tensors."""
        return type(self), self.problem.activation.name, structure_of(self.operator.form)

    def recorded(self, x: Tensor) -> bool:
        """Whether there are recorded steps for these iterates (m, n)."""
        graphs = self.problem.graphs
        return self._whole and graphs is not None and graphs.serve(self, x)

    def repeated(self, x: Tensor, spare: Tensor | None, count: int) -> tuple[Tensor, Tensor | None]:
        """Take so many steps, as recorded where that is to be had."""
        graphs = self.problem.graphs
        if graphs is not None and count > 1 and self.recorded(x):
            if self._steps is None:
                self._steps = graphs.steps(self, x)
            if self._steps.take(self, x, count):
                return x, spare
        return super().repeated(x, spare, count)

    @property
    def multiplications(self) -> int:
        """Those of A."""
        return self.operator.multiplications

    def growth(self) -> float:
        """Return that of A; its transpose has the same."""
        return self.problem.spectrum.growth(self.operator)


class StateMap(SummedStates, _MapOf):
    """x ↦ φ(Ax + b).

    Args:
        problem: φ, and what is known of A.
        operator: A.
        offset: b (m, n).
    """

    linear = False

    def __init__(self, problem: EquilibriumProblem, operator: Operator, offset: Tensor) -> None:
        self.problem = problem
        self.operator = operator
        self.inflow = offset
        self.activation = problem.activation

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Return φ(Ax + b)."""
        return self.activation.in_place(self.operator.apply(x, self.inflow, out))

    def restrict(self, samples: Tensor) -> StateMap:
        """Return that of these samples' b."""
        some = StateMap(self.problem, self.operator, select(self.inflow, samples))
        some._whole = False
        return some

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """b, and A's factors."""
        return self.inflow, *self.operator.factors

    @property
    def form(self) -> Callable[[Sequence[Tensor]], _MapOf]:
        """What makes that of other ones."""
        return partial(_state_map, self.problem.bare(), self.operator.form)

    def slopes(self, x: Tensor, image: Tensor) -> Tensor:
        """Return φ′(Ax + b)."""
        if self.activation.name == "relu":
            return self.activation.derivative(image)  # x > 0 where z > 0
        return self.activation.derivative(self.operator.apply(x, self.inflow))

    def tangent(self, v: Tensor, slopes: Tensor) -> Tensor:
        """Return d ⊙ Av."""
        return self.operator.apply(v, torch.zeros_like(v)).mul_(slopes)

    def matrix(self) -> Tensor:
        """Return A."""
        return self.operator.to_dense()

    def modes(self) -> Modes | None:
        """Return A's."""
        return self.problem.spectrum.modes(self.operator)


class AdjointMap(SummedAdjoints, _MapOf):
    """v ↦ d ⊙ (g + Aᵀv).

    Args:
        problem: what is known of A.
        operator: A.
        slopes: d (m, n).
        gradient: g (m, n).
    """

    linear = True

    def __init__(
        self, problem: EquilibriumProblem, operator: Operator, slopes: Tensor, gradient: Tensor
    ) -> None:
        self.problem = problem
        self.operator = operator
        self.derivative = slopes
        self.gradient = gradient

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Return d ⊙ (g + Aᵀv)."""
        return self.operator.apply_transpose(x, self.gradient, out).mul_(self.derivative)

    def restrict(self, samples: Tensor) -> AdjointMap:
        """Return that of these samples' d and g."""
        slopes, gradient = select(self.derivative, samples), select(self.gradient, samples)
        some = AdjointMap(self.problem, self.operator, slopes, gradient)
        some._whole = False
        return some

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Slopes, g, and A's factors."""
        return self.derivative, self.gradient, *self.operator.factors

    @property
    def form(self) -> Callable[[Sequence[Tensor]], _MapOf]:
        """What makes that of other ones."""
        return partial(_adjoint_map, self.problem.bare(), self.operator.form)

    def slopes(self, x: Tensor, image: Tensor) -> Tensor:
        """Return d."""
        return self.derivative

    def tangent(self, v: Tensor, slopes: Tensor) -> Tensor:
        """Return d ⊙ Aᵀv."""
        return self.operator.apply_transpose(v, torch.zeros_like(v)).mul_(slopes)

    def matrix(self) -> Tensor:
        """Return Aᵀ."""
        return self.operator.to_dense().t()

    def modes(self) -> Modes | None:
        """Return A's, right and left ones in each other's place."""
        modes = self.problem.spectrum.modes(self.operator)
        return None if modes is None else modes.transposed()


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
    function = StateMap(problem, operator, offset)
    if isinstance(operator, NilpotentOperator):
        x = operator.swept_state(offset, problem.activation)
        return _exact_result(x, function(x))
    if start is not None:
        return solve_fixed_point(function, start, problem.forward)
    start = problem.activation.function(offset)
    return solve_fixed_point(function, start, problem.forward, overwrite=True)


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
    function = AdjointMap(problem, operator, slopes, gradient)
    scale = adjoint_scale(gradient)
    if isinstance(operator, NilpotentOperator):
        v = operator.swept_adjoint(slopes, gradient)
        return _exact_result(v, function(v), scale)
    settings = problem.backward.fixed_point
    return solve_fixed_point(function, slopes * gradient, settings, scale=scale, overwrite=True)


def _state_map(
    problem: EquilibriumProblem, form: Callable[..., Operator], tensors: Sequence[Tensor]
) -> StateMap:
    return StateMap(problem, form(*tensors[1:]), tensors[0])


def _adjoint_map(
    problem: EquilibriumProblem, form: Callable[..., Operator], tensors: Sequence[Tensor]
) -> AdjointMap:
    return AdjointMap(problem, form(*tensors[2:]), *tensors[:2])


def _exact_result(value: Tensor, image: Tensor, scale: Tensor | None = None) -> FixedPointResult:
    """Return the result of one exact sweep; its residual is rounding, or NaN."""
    residuals = Change.of(value, image, scale).residual
    finite = bool(residuals.isfinite().all())
    status = SolveStatus.CONVERGED if finite else SolveStatus.NON_FINITE
    return FixedPointResult(value, residuals, 1, torch.finfo(value.dtype).max, status)
