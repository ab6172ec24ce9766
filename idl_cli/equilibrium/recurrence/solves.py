"""The equilibria and the adjoints of a recurrence's steps, solved one after another and counted."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from idl_cli.equilibrium.engine import Iterations, solve
from idl_cli.equilibrium.fixed_point import Steps
from idl_cli.equilibrium.gradient.approximate_adjoint import approximate_adjoint, report_error
from idl_cli.equilibrium.iterations.picard import Picard
from idl_cli.equilibrium.operators import Operator
from idl_cli.equilibrium.problem import (
    AdjointMap,
    EquilibriumProblem,
    StateMap,
    solve_adjoint,
    solve_state,
)
from idl_cli.equilibrium.recurrence.feedback import OF_STEPS, Feedback
from idl_cli.equilibrium.recurrence.layout import state_major
from idl_cli.equilibrium.recurrence.modulus import ModulusAdjoints, ModulusStates
from idl_cli.equilibrium.recurrence.together import Together
from idl_cli.equilibrium.residual import adjoint_scale
from idl_cli.equilibrium.result import FixedPointResult, SolveStatus
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings


class _Solves:
    """What solves of either kind share: how they iterate, and what they came to."""

    def __init__(
        self,
        problem: EquilibriumProblem,
        settings: FixedPointSettings | AdjointSettings,
        operator: Operator,
        feedback: Feedback | None,
    ) -> None:
        self._problem = problem
        self._settings = settings
        self._operator = operator
        self._results: list[FixedPointResult] = []
        self._sizes: list[int] = []
        self._feedback = feedback if settings.method in OF_STEPS else None
        self._policy: Together | None = None
        if self._feedback is not None:
            dtype = operator.factors[0].dtype
            self._policy = self._feedback.policy(settings.tol, dtype)
        self._buffers: tuple[Tensor, ...] = ()
        self._started = time.perf_counter()

    def _work_space(self, feedback: Feedback, samples: int) -> tuple[Tensor, Tensor]:
        if not self._buffers:
            like = self._operator.factors[0]
            size = self._operator.size
            self._buffers = tuple(state_major(feedback.samples, size, like) for _ in range(2))
        first, second = self._buffers
        if samples == first.shape[0]:
            return first, second
        return first[:samples], second[:samples]

    def _together(self, iterations: Iterations, scale: Tensor | None = None) -> FixedPointResult:
        assert self._policy is not None, "known where there is feedback"
        settings = self._settings
        return solve(
            iterations,
            self._policy,
            max_iter=settings.max_iter,
            tol=settings.tol,
            scale=scale,
        )

    def _keep(self, result: FixedPointResult) -> Tensor:
        self._results.append(result)
        self._sizes.append(result.value.shape[0])
        return result.value

    @property
    def _seconds(self) -> float:
        """Wall-clock seconds since the first step."""
        return time.perf_counter() - self._started

    def _joined(self, value: Tensor) -> FixedPointResult:
        """All of them as one, as if ``value`` had been solved for at once."""
        return _joined(self._results, self._sizes, value)


class StateSolves(_Solves):
    """Solves x = φ(Ax + b) for step after step.

    Args:
        problem: activation, settings and where solves are counted.
        operator: A.
        feedback: what ``feedback_of`` tells of A.
    """

    def __init__(
        self, problem: EquilibriumProblem, operator: Operator, feedback: Feedback | None
    ) -> None:
        super().__init__(problem, problem.forward, operator, feedback)
        # Mean iterations of the last solve from φ(b), and of the last from the step before.
        self._cold_cost, self._warm_cost = math.inf, 0.0

    def solve(self, offset: Tensor, before: Tensor | None) -> Tensor:
        """Return x (m, n), valid until the next solve.

        The solve starts from the state of the step before. Where inputs jump from step to step that
        is a worse start than φ(b); a sequence whose second step took longer than its first did from
        there goes on from φ(b).

        Args:
            offset: b (m, n), state-major.
            before: x of the step before (m, n), state-major; None for the first step.
        """
        warm = before is not None and self._warm_cost <= self._cold_cost
        result = self._solve(offset, before if warm else None)
        cost = result.spent
        mean = float(cost) if isinstance(cost, int) else float(cost.sum()) / offset.shape[0]
        if warm:
            self._warm_cost = mean
        else:
            self._cold_cost = mean
        return self._keep(result)

    def record(self, value: Tensor) -> None:
        """Count the solves; ``value`` (rows, n) holds their solutions in any order."""
        statistics = self._problem.statistics
        if statistics is not None:
            statistics.record_forward(self._joined(value), self._seconds)

    def _solve(self, offset: Tensor, start: Tensor | None) -> FixedPointResult:
        feedback = self._feedback
        if feedback is None:
            return solve_state(self._problem, self._operator, offset, start)
        if feedback.modulus is not None:
            return self._together(ModulusStates(feedback.modulus, offset, start))
        x, spare = self._work_space(feedback, offset.shape[0])
        x.copy_(self._problem.activation.function(offset) if start is None else start)
        function = StateMap(self._problem, self._operator, offset)
        return self._together(Steps(function, Picard(x.shape[1]), x, spare))


class AdjointSolves(_Solves):
    """Solves v = d ⊙ (g + Aᵀv) for step after step; arguments as of ``StateSolves``."""

    def __init__(
        self, problem: EquilibriumProblem, operator: Operator, feedback: Feedback | None
    ) -> None:
        super().__init__(problem, problem.backward, operator, feedback)

    def solve(self, slopes: Tensor, gradient: Tensor) -> Tensor:
        """Return v (m, n), valid until the next solve.

        Args:
            slopes: d (m, n), state-major.
            gradient: g (m, n), state-major.
        """
        if self._problem.approximates(self._operator):
            return self._approximated(slopes, gradient)
        return self._keep(self._solve(slopes, gradient))

    def _approximated(self, slopes: Tensor, gradient: Tensor) -> Tensor:
        problem, operator = self._problem, self._operator
        v = approximate_adjoint(
            slopes * gradient,
            lambda v: operator.apply_transpose(v, gradient) * slopes,
            problem.backward,
        )
        report_error(
            problem.statistics,
            problem.backward,
            v,
            lambda: solve_adjoint(problem, operator, slopes, gradient).value,
        )
        return v

    def record(self, value: Tensor) -> None:
        """Count the solves; ``value`` (rows, n) holds their solutions in any order."""
        statistics = self._problem.statistics
        if statistics is not None and self._results:
            statistics.record_backward(self._joined(value), self._seconds)

    def _solve(self, slopes: Tensor, gradient: Tensor) -> FixedPointResult:
        feedback = self._feedback
        if feedback is None:
            return solve_adjoint(self._problem, self._operator, slopes, gradient)
        scale = adjoint_scale(gradient)
        if feedback.modulus is not None:
            return self._together(ModulusAdjoints(feedback.modulus, slopes, gradient), scale)
        v, spare = self._work_space(feedback, gradient.shape[0])
        torch.mul(slopes, gradient, out=v)
        function = AdjointMap(self._problem, self._operator, slopes, gradient)
        return self._together(Steps(function, Picard(v.shape[1]), v, spare), scale)


def _joined(results: list[FixedPointResult], sizes: list[int], value: Tensor) -> FixedPointResult:
    counts = [result.spent for result in results]
    device = value.device
    if all(isinstance(count, int) for count in counts):
        each = torch.tensor(counts, device=device)
        if sizes[0] == sizes[-1]:  # sizes never grow in time: all are equal, in either order
            iterations = each[:, None].expand(-1, sizes[0]).flatten()
        else:
            iterations = each.repeat_interleave(torch.tensor(sizes, device=device))
    else:
        iterations = torch.cat(
            [
                torch.full((size,), count, device=device) if isinstance(count, int) else count
                for count, size in zip(counts, sizes, strict=True)
            ]
        )
    residuals = torch.cat([result.residuals for result in results])
    status = max((result.status for result in results), key=_SEVERITY.index)
    return FixedPointResult(value, residuals, iterations, results[0].tol, status)


_SEVERITY = (SolveStatus.CONVERGED, SolveStatus.MAX_ITERATIONS, SolveStatus.NON_FINITE)
