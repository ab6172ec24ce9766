"""The one loop of all fixed points x = f(x), of batches, of adjoints and of a recurrence's steps.

Stopping, counting, the detection of non-finite samples and the writing down of finished ones happen
here once. What is iterated are ``Iterations``; when they are looked at, and which samples go on
alone, a ``Policy`` says. Every sample is judged by itself (``residual``).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from idl_cli.equilibrium.finished import Finished
from idl_cli.equilibrium.policy import Look, Policy
from idl_cli.equilibrium.residual import Change, Summed, reachable
from idl_cli.equilibrium.result import FixedPointResult, SolveStatus

# What passes by norm with this share of the tolerance passes state by state in most cases.
_CLEARLY = 0.25


class Iterations(ABC):
    """The iterations of one solve of x = f(x), holding the current iterate.

    Attributes:
        recovers: whether a sample that is not finite goes back to an iterate that was.
        reused: whether later iterates of fewer samples are written where those of all were.
    """

    recovers: bool = False
    reused: bool = False

    @property
    def summed(self) -> Summed | None:
        """What the states of f are sums of: these themselves, where they are such."""
        return self if isinstance(self, Summed) else None

    @abstractmethod
    def advance(self, count: int) -> int:
        """Take so many steps, or fewer where they change when to look; return how many."""

    @abstractmethod
    def look(self) -> tuple[Tensor, Tensor]:
        """Take a step; return the iterate before it and its image f(x), both (m, n).

        They are valid until the step after next.
        """

    def go_on(self, residual: Tensor) -> int:
        """Go on from the last look; return the evaluations that this took, beside the look's.

        Nothing is to be done where the look was a step.

        Args:
            residual: relative residual (m,) of the samples at hand.
        """
        return 0

    @abstractmethod
    def restrict(self, samples: Tensor) -> None:
        """Go on with the samples at these indices (k,) alone."""


def solve(
    iterations: Iterations,
    policy: Policy,
    *,
    max_iter: int,
    tol: float,
    scale: Tensor | None = None,
) -> FixedPointResult:
    """Iterate until every sample has converged or ``max_iter`` is reached.

    The fixed points that are returned lie in memory that ``reused`` iterations may overwrite.

    Args:
        iterations: at their start.
        policy: when they are looked at.
        max_iter: most evaluations, >= 1.
        tol: largest relative residual of a converged sample; what rounding leaves of it is what is
            asked for.
        scale: what each sample's ‖f(x) − x‖∞ is divided by (m,); its own size where it is None.
    """
    return _Solve(iterations, policy, max_iter, tol, scale).run()


class _Solve:
    """The state of one solve: the samples at hand and what is known of the others."""

    def __init__(
        self,
        iterations: Iterations,
        policy: Policy,
        max_iter: int,
        tol: float,
        scale: Tensor | None,
    ) -> None:
        self.iterations = iterations
        self.policy = policy
        self.max_iter = max_iter
        self.asked = tol
        self.tol = tol
        self.scale = scale
        self.finished = Finished()
        self.lagged = policy.lags  # whether a sample passed by norm and lagged state by state
        self.floor = 0.0
        self.passed: Tensor | None = None  # by norm at the last look, where that is to be confirmed
        self.finite = True  # all residuals so far

    def run(self) -> FixedPointResult:
        iterations, policy = self.iterations, self.policy
        done, going_on = 0, -1
        while True:
            while (ahead := min(policy.check, self.max_iter) - done - 1) > 0:
                done += iterations.advance(ahead)
            live = self.finished.live
            if live is not None and iterations.recovers:
                # They would keep account of samples that nothing brings nearer any more.
                self._take_out(live)
            x, image = iterations.look()
            done += 1
            last = done == self.max_iter
            look, apart = self._judge(x, image, last)
            value = x if iterations.summed is None else image
            if look.count == 0 or last:
                policy.ended(done, look.worst, self.tol, look.values, self.lagged)
                return self._finish(value, look, done)
            policy.looked(done, look, self.tol)
            residual, samples = look.residual, len(x)
            if going_on < 0:
                going_on = samples
            if apart and look.count < going_on and policy.parted(look.count, samples, look.worst):
                assert look.running is not None, "there are some"
                going_on = look.count
                residual = self._part(value, look, done)
                policy.left_behind(done, look.count, samples)
            # The last evaluation is looked at.
            done = min(done + iterations.go_on(residual), self.max_iter - 1)

    def _judge(self, x: Tensor, image: Tensor, last: bool) -> tuple[Look, bool]:
        """Look at the samples at hand; return also whether some may leave the others."""
        policy, summed, live = self.policy, self.iterations.summed, self.finished.live
        self.tol = tol = reachable(self.asked, x.dtype)
        change = Change.of(x, image, self.scale, self.floor)
        self.floor = reachable(0, x.dtype) / tol  # only a long solve comes near it
        residual, values = change.residual, x.numel()
        samples = residual.shape[0]
        # A NaN residual is not above the tolerance: that sample is finished, and failed.
        if self.iterations.recovers:
            residual.nan_to_num_(nan=torch.inf)
        worst = float(residual.amax()) if samples else 0.0
        self.finite = self.finite and math.isfinite(worst)
        apart = policy.parts(worst, tol, values)
        unproven, failing = None, 0
        if policy.confirms or not worst <= tol:
            if not (apart or last):
                return Look(residual, worst, values, None, samples, False), False
            unproven = _both(self._unconfirmed(residual, last), live)
            failing = int(torch.count_nonzero(unproven))
            if not last and not policy.parted(failing, samples, worst):
                return Look(residual, worst, values, unproven, failing, False), False
        if summed is None or failing == samples:
            return Look(residual, worst, values, unproven, failing, False), apart
        slack = change.slack(tol, summed, unproven)
        if failing == 0 and float(slack.amin()) >= 0:
            return Look(residual, worst, values, None, 0, False), apart
        if slack.dim() == 2:
            slack = slack.amin(dim=1)
        running = _both(_either(unproven, slack < 0), live)
        count = int(torch.count_nonzero(running))
        # Of samples that are judged together one lags where all others are through.
        counts = last or worst <= tol or not policy.together
        if count > failing and counts and (self.lagged or last):
            change.raise_lagging(tol, summed, slack)
            worst = float(residual.amax())
            running = _both(_either(unproven, residual > tol), live)
            count = int(torch.count_nonzero(running))
        self.lagged |= counts and count > failing
        return Look(residual, worst, values, running, count, count > failing), apart

    def _unconfirmed(self, residual: Tensor, last: bool) -> Tensor:
        """Return which samples do not pass by norm, or only just and for the first time."""
        running = residual > self.tol
        if not self.policy.confirms or last:
            return running
        before, self.passed = self.passed, ~running
        just = residual > _CLEARLY * self.tol
        return just if before is None else just.logical_and_(~before).logical_or_(running)

    def _part(self, value: Tensor, look: Look, done: int) -> Tensor:
        """Write down what is known, go on with those that run, and return their residuals."""
        assert look.running is not None, "the caller has looked"
        if (
            self.finite
            and self.finished.rows is None
            and self.policy.stays(len(value) - look.count)
        ):
            self.finished.write(value.clone(), look.residual, done)
            self.finished.leave(look.running)
            return look.residual
        self.finished.write(value.clone() if self.iterations.reused else value, look.residual, done)
        self._take_out(look.running)
        return look.residual[look.running]

    def _take_out(self, running: Tensor) -> None:
        """Restrict everything to the samples that are running (m,)."""
        kept = self.finished.take_out(running)
        self.iterations.restrict(kept)
        if self.passed is not None:
            self.passed = self.passed.index_select(0, kept)
        if self.scale is not None:
            self.scale = self.scale.index_select(0, kept)

    def _finish(self, value: Tensor, look: Look, done: int) -> FixedPointResult:
        self.finished.write(value, look.residual, done)
        value, residuals, iterations = self.finished.results()
        # Counted where all is finite; what is not is neither above the tolerance nor converged.
        if look.count == 0 and (self.finite or bool((residuals <= self.tol).all())):
            status = SolveStatus.CONVERGED
        elif bool(residuals.isfinite().all()):
            status = SolveStatus.MAX_ITERATIONS
        else:
            status = SolveStatus.NON_FINITE
        return FixedPointResult(value, residuals, iterations, self.tol, status)


def _either(one: Tensor | None, other: Tensor) -> Tensor:
    return other if one is None else other.logical_or_(one)


def _both(one: Tensor, other: Tensor | None) -> Tensor:
    return one if other is None else one.logical_and_(other)
