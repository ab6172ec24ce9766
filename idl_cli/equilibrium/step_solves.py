"""The equilibria and the adjoints of a recurrence's steps, solved one after another and counted."""

from __future__ import annotations

import torch
from torch import Tensor

from idl_cli.equilibrium.activations import Activation
from idl_cli.equilibrium.fixed_point import FixedPointResult, SampleMap, SolveStatus
from idl_cli.equilibrium.implicit_gradient import EquilibriumProblem, solve_adjoint, solve_state
from idl_cli.equilibrium.narrow_picard import NarrowPicard, NarrowResult, select
from idl_cli.equilibrium.operators import Operator


class StateSolves:
    """Solves x = φ(Ax + b) for step after step.

    Args:
        problem: activation, settings and where solves are counted.
        operator: A.
        samples: most samples of a step.
        like: a tensor of the dtype and device of all that follows.
    """

    def __init__(
        self, problem: EquilibriumProblem, operator: Operator, samples: int, like: Tensor
    ) -> None:
        self._problem = problem
        self._operator = operator
        self._picard: NarrowPicard | None = None
        self._results: list[NarrowResult] = []
        self._sizes: list[int] = []
        settings = problem.forward
        if settings.method == "picard" and not operator.nilpotent:
            self._picard = NarrowPicard(
                operator, samples, like, max_iter=settings.max_iter, tol=settings.tol
            )

    def solve(self, offset: Tensor, start: Tensor | None) -> Tensor:
        """Return x (m, n), valid until the next solve.

        Args:
            offset: b (m, n), state-major.
            start: first iterates (m, n), state-major; φ(b) where it is None.
        """
        if self._picard is None:
            result = _as_narrow(solve_state(self._problem, self._operator, offset, start))
        else:
            if start is None:
                start = self._problem.activation.function(offset)
            function = _StateMap(self._operator, offset, self._problem.activation)
            result = self._picard.solve(function, start)
        self._results.append(result)
        self._sizes.append(len(offset))
        return result.value

    def record(self, value: Tensor) -> None:
        """Count the solves; ``value`` (rows, n) holds their solutions in any order."""
        statistics = self._problem.statistics
        if statistics is not None:
            tol = _threshold(self._operator, self._problem.forward.tol, value)
            statistics.record_forward(_joined(self._results, self._sizes, value, tol))


class AdjointSolves:
    """Solves v = d ⊙ (g + Aᵀv) for step after step; arguments as of ``StateSolves``."""

    def __init__(
        self, problem: EquilibriumProblem, operator: Operator, samples: int, like: Tensor
    ) -> None:
        self._problem = problem
        self._operator = operator
        self._picard: NarrowPicard | None = None
        self._results: list[NarrowResult] = []
        self._sizes: list[int] = []
        settings = problem.backward
        if settings.method == "picard" and not operator.nilpotent:
            self._picard = NarrowPicard(
                operator, samples, like, max_iter=settings.max_iter, tol=settings.tol
            )

    def solve(self, slopes: Tensor, gradient: Tensor) -> Tensor:
        """Return v (m, n), valid until the next solve.

        Args:
            slopes: d (m, n), state-major.
            gradient: g (m, n), state-major.
        """
        problem = self._problem
        if problem.backward.method == "jacobian_free" and not self._operator.nilpotent:
            return slopes * gradient
        if self._picard is None:
            result = _as_narrow(solve_adjoint(problem, self._operator, slopes, gradient))
        else:
            scale = gradient.abs().amax(dim=1).add_(torch.finfo(gradient.dtype).tiny)
            function = _AdjointMap(self._operator, slopes, gradient)
            result = self._picard.solve(function, slopes * gradient, scale)
        self._results.append(result)
        self._sizes.append(len(gradient))
        return result.value

    def record(self, value: Tensor) -> None:
        """Count the solves; ``value`` (rows, n) holds their solutions in any order."""
        statistics = self._problem.statistics
        if statistics is not None and self._results:
            tol = _threshold(self._operator, self._problem.backward.tol, value)
            statistics.record_backward(_joined(self._results, self._sizes, value, tol))


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


def _as_narrow(result: FixedPointResult) -> NarrowResult:
    return NarrowResult(result.value, result.residuals, result.iterations, result.status)


def _threshold(operator: Operator, tol: float, like: Tensor) -> float:
    """Return the largest residual of a converged sample; an exact solve's is rounding."""
    return torch.finfo(like.dtype).max if operator.nilpotent else tol


def _joined(
    results: list[NarrowResult], sizes: list[int], value: Tensor, tol: float
) -> FixedPointResult:
    counts = [result.iterations for result in results]
    device = value.device
    if all(isinstance(count, int) for count in counts):
        iterations = torch.tensor(counts, device=device)
        iterations = iterations.repeat_interleave(torch.tensor(sizes, device=device))
    else:
        iterations = torch.cat(
            [
                torch.full((size,), count, device=device) if isinstance(count, int) else count
                for count, size in zip(counts, sizes, strict=True)
            ]
        )
    residuals = torch.cat([result.residuals for result in results])
    status = max((result.status for result in results), key=_SEVERITY.index)
    return FixedPointResult(value, iterations, residuals, residuals <= tol, status)


_SEVERITY = (SolveStatus.CONVERGED, SolveStatus.MAX_ITERATIONS, SolveStatus.NON_FINITE)
