"""One driver for batched fixed points x = f(x); methods supply the steps.

Stopping, counting, the detection of non-finite samples and the freezing of finished ones happen
here once, for the equilibrium and for its adjoint, whatever the method. Every sample is judged by
itself (``residual``). Which iterations are checked depends on their number alone, so the result of
a sample does not depend on the batch it is in (up to the rounding of a matrix product of another
size).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from idl_cli.equilibrium.choose import step_method
from idl_cli.equilibrium.finished import Finished
from idl_cli.equilibrium.iterations.coarse import Linearised
from idl_cli.equilibrium.iterations.step_method import StepMethod
from idl_cli.equilibrium.residual import Change, Summed, reachable
from idl_cli.equilibrium.result import FixedPointResult, SolveStatus
from idl_cli.equilibrium.settings import FixedPointSettings
from idl_cli.errors import ShapeError

# What passes by norm with this share of the tolerance passes state by state in most cases.
_CLEARLY = 0.25

# Multiplications a step up to which taking finished samples out of a batch costs more than the few
# steps that most solves have left: some 60 microseconds beside 15 a step.
_SPARED = 4e5


class SampleMap(ABC):
    """A map f on a batch of samples that can be restricted to some of them.

    A plain function can be solved too; a map that can be restricted saves the work on the samples
    that are finished.
    """

    @abstractmethod
    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Return f(x) for the samples (m, n); ``out`` (m, n) may be used to hold it."""

    @abstractmethod
    def restrict(self, samples: Tensor) -> SampleMap:
        """Return the map for the samples at these indices (k,) only."""


def solve_fixed_point(
    function: SampleMap | Callable[[Tensor], Tensor],
    start: Tensor,
    settings: FixedPointSettings,
    *,
    scale: Tensor | None = None,
    overwrite: bool = False,
) -> FixedPointResult:
    """Solve x = f(x) for every sample.

    No graph is recorded: gradients come from the implicit function theorem.

    Args:
        function: f, from (m, n) to (m, n), each sample by itself.
        start: first iterates (m, n); not overwritten unless ``overwrite``.
        settings: method, tolerance and limits.
        scale: what each sample's ‖f(x) − x‖∞ is divided by (m,); its own size where it is None.
        overwrite: whether ``start`` may hold later iterates, and the result.

    Raises:
        ShapeError: ``start`` or an f(x) is not (m, n).
    """
    if start.dim() != 2:
        raise ShapeError(f"start has shape {tuple(start.shape)}; expected (samples, states).")
    with torch.no_grad():
        restrictable = (
            function if isinstance(function, SampleMap) else _WholeBatchMap(function, start)
        )
        start = start.detach()
        tol = reachable(settings.tol, start.dtype)
        method = step_method(settings, function, start, tol)
        kept = None if overwrite else start
        return _Solve(restrictable, method, kept, settings.max_iter, tol, scale).run(start)


class _Solve:
    """The state of one solve: the samples still active and what is known of the others."""

    def __init__(
        self,
        function: SampleMap,
        method: StepMethod,
        start: Tensor | None,
        max_iter: int,
        tol: float,
        scale: Tensor | None,
    ) -> None:
        self.function = function
        self.summed = isinstance(function, Summed)
        self.method = method
        self.start = start  # not to be written to
        self.max_iter = max_iter
        self.tol = tol
        self.scale = scale
        # Of a step with one sample; 0 where a finished sample must stand still.
        self.multiplications = function.multiplications if isinstance(function, Linearised) else 0
        self.finished = Finished()
        # Whether a sample passed by norm and lagged state by state; a method that steers by the
        # residual is told of it in figures from the start.
        self.lagged = self.method.steered
        self.floor = 0.0
        self.passed: Tensor | None = None  # by norm at the last look, where that is to be confirmed
        self.finite = True  # all residuals so far

    def run(self, x: Tensor) -> FixedPointResult:
        spare: Tensor | None = None
        method, going_on = self.method, len(x)
        iteration = 0
        while True:
            iteration += 1
            image = self.function(x, spare)
            residual = None
            if iteration >= method.check or iteration == self.max_iter:
                last = iteration == self.max_iter
                if method.recovers and self.finished.live is not None:
                    # It would keep account of samples that nothing brings nearer any more.
                    x, image = self._take_out(self.finished.live, x, image)
                residual, running, count = self._judge(x, image, last)
                if count == 0 or last:
                    return self._finish(self._better(x, image), residual, iteration, count)
                assert running is not None, "there are some"
                if count < going_on:
                    going_on = count
                    x, image, residual = self._freeze(x, image, residual, iteration, running, count)
            elif method.passive:
                spare = None if x is self.start else x
                x = image
                continue
            following = method.step(self.function, x, image, residual)
            spare = x if following is image else image
            if spare is self.start:
                spare = None
            x = following

    def _judge(self, x: Tensor, image: Tensor, last: bool) -> tuple[Tensor, Tensor | None, int]:
        """Return the residuals, which samples have not converged, and how many."""
        change = Change.of(x, image, self.scale, self.floor)
        self.floor = reachable(0, x.dtype) / self.tol  # only a long solve comes near it
        residual, live, tol = change.residual, self.finished.live, self.tol
        # A NaN residual is not above the tolerance: that sample is finished, and failed.
        if self.method.recovers:
            residual.nan_to_num_(nan=torch.inf)
        samples = residual.shape[0]
        worst = float(residual.amax()) if samples else 0.0
        self.finite = self.finite and math.isfinite(worst)
        unproven, failing = None, 0
        if self.method.confirms or not worst <= tol:
            unproven = _both(self._unconfirmed(residual, last), live)
            failing = int(torch.count_nonzero(unproven))
        if not self.summed or failing == samples:
            return residual, unproven, failing
        assert isinstance(self.function, Summed), "asked at the start"
        slack = change.slack(tol, self.function, unproven)
        if failing == 0 and float(slack.amin()) >= 0:
            return residual, None, 0
        running = _both(_either(unproven, slack < 0), live)
        count = int(torch.count_nonzero(running))
        if count > failing and (self.lagged or last):
            change.raise_lagging(tol, self.function, slack)
            running = _both(_either(unproven, residual > tol), live)
            count = int(torch.count_nonzero(running))
        self.lagged |= count > failing
        return residual, running, count

    def _unconfirmed(self, residual: Tensor, last: bool) -> Tensor:
        """Return which samples do not pass by norm, or only just and for the first time."""
        running = residual > self.tol
        if not self.method.confirms or last:
            return running
        before, self.passed = self.passed, ~running
        just = residual > _CLEARLY * self.tol
        return just if before is None else just.logical_and_(~before).logical_or_(running)

    def _freeze(
        self,
        x: Tensor,
        image: Tensor,
        residual: Tensor,
        iteration: int,
        running: Tensor,
        count: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Write down the samples that are finished and go on with the others."""
        value = self._better(x, image)
        spared = (len(x) - count) * self.multiplications
        if (
            0 < spared <= _SPARED
            and self.finite
            and self.finished.rows is None
            and not (self.method.recovers or self.method.confirms)
        ):
            self.finished.write(value.clone(), residual, iteration)
            self.finished.leave(running)
            return x, image, residual
        self.finished.write(value, residual, iteration)
        x, image = self._take_out(running, x, image)
        return x, image, residual[running]

    def _take_out(self, running: Tensor, x: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Restrict everything to the samples that are running (m,)."""
        kept = self.finished.take_out(running)
        self.function = self.function.restrict(kept)
        self.method.restrict(kept)
        if self.passed is not None:
            self.passed = self.passed.index_select(0, kept)
        if self.scale is not None:
            self.scale = self.scale.index_select(0, kept)
        return x.index_select(0, kept), image.index_select(0, kept)

    def _better(self, x: Tensor, image: Tensor) -> Tensor:
        """Return f(x) where the rule vouches for it; of any other f, x is what was judged."""
        if self.summed:
            return image
        return x.clone() if x is self.start else x

    def _finish(
        self, value: Tensor, residual: Tensor, iteration: int, failing: int
    ) -> FixedPointResult:
        self.finished.write(value, residual, iteration)
        value, residuals, iterations = self.finished.results()
        converged = residuals <= self.tol
        # Counted where all is finite; what is not is neither above the tolerance nor converged.
        if failing == 0 and (self.finite or bool(converged.all())):
            status = SolveStatus.CONVERGED
        elif bool(residuals.isfinite().all()):
            status = SolveStatus.MAX_ITERATIONS
        else:
            status = SolveStatus.NON_FINITE
        return FixedPointResult(value, iterations, residuals, converged, status)


def _either(one: Tensor | None, other: Tensor) -> Tensor:
    return other if one is None else other.logical_or_(one)


def _both(one: Tensor, other: Tensor | None) -> Tensor:
    return one if other is None else one.logical_and_(other)


class _WholeBatchMap(SampleMap):
    """A plain function, called on the whole batch with the finished samples held where they are."""

    def __init__(
        self, function: Callable[[Tensor], Tensor], full: Tensor, rows: Tensor | None = None
    ) -> None:
        self.function = function
        self.full = full
        self.rows = rows

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        if self.rows is None:
            self.full = x
        else:
            self.full = self.full.index_copy(0, self.rows, x)
        image = self.function(self.full)
        if image.shape != self.full.shape:
            raise ShapeError(
                f"f maps {tuple(self.full.shape)} to {tuple(image.shape)}; a fixed point needs "
                "f(x) in the shape of x."
            )
        return image if self.rows is None else image[self.rows]

    def restrict(self, samples: Tensor) -> _WholeBatchMap:
        rows = samples if self.rows is None else self.rows[samples]
        return _WholeBatchMap(self.function, self.full, rows)
