"""One driver for batched fixed points x = f(x); methods supply the steps.

Stopping, counting, the detection of non-finite samples and the freezing of finished ones happen
here once, for the equilibrium and for its adjoint, whatever the method. Every sample is judged by
itself (``residual``). Which iterations are checked depends on their number alone, so the result of
a sample does not depend on the batch it is in (up to the rounding of a matrix product of another
size).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from idl_cli.equilibrium.choose import step_method
from idl_cli.equilibrium.residual import Change, Summed, reachable
from idl_cli.equilibrium.result import FixedPointResult, SolveStatus
from idl_cli.equilibrium.settings import FixedPointSettings
from idl_cli.errors import ShapeError

# What passes by norm with this share of the tolerance passes state by state in most cases.
_CLEARLY = 0.25


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
        return _Solve(restrictable, start, settings, scale, overwrite).run(start)


class _Solve:
    """The state of one solve: the samples still active and what is known of the others."""

    def __init__(
        self,
        function: SampleMap,
        start: Tensor,
        settings: FixedPointSettings,
        scale: Tensor | None,
        overwrite: bool,
    ) -> None:
        self.function = function
        self.start = None if overwrite else start
        self.settings = settings
        self.scale = scale
        self.tol = reachable(settings.tol, start.dtype)
        self.method = step_method(settings, function, start, self.tol)
        self.value: Tensor | None = None  # of all samples, once some are frozen
        self.rows: Tensor | None = None  # indices of the active samples, None for all of them
        # Whether a sample passed by norm and lagged state by state; a method that steers by the
        # residual is told of it in figures from the start.
        self.lagged = self.method.steered
        self.floor = 0.0
        self.passed: Tensor | None = None  # by norm at the last look, where that is to be confirmed

    def run(self, x: Tensor) -> FixedPointResult:
        spare: Tensor | None = None
        settings, method = self.settings, self.method
        iteration = 0
        while True:
            iteration += 1
            image = self.function(x, spare)
            residual = None
            if iteration >= method.check or iteration == settings.max_iter:
                last = iteration == settings.max_iter
                residual, running, count = self._judge(x, image, last)
                if count == 0 or last:
                    return self._finish(self._better(x, image), residual, iteration)
                if count < len(x):
                    x, image, residual = self._freeze(x, image, residual, iteration, running)
            following = method.step(self.function, x, image, residual)
            spare = x if following is image else image
            if spare is self.start:
                spare = None
            x = following

    def _judge(self, x: Tensor, image: Tensor, last: bool) -> tuple[Tensor, Tensor, int]:
        """Return the residuals, which samples have not converged, and how many."""
        change = Change.of(x, image, self.scale, self.floor)
        self.floor = reachable(0, x.dtype) / self.tol  # only a long solve comes near it
        # A NaN residual is not above the tolerance: that sample is finished, and failed.
        if self.method.recovers:
            change.residual.nan_to_num_(nan=torch.inf)
        running = unproven = self._unconfirmed(change.residual, last)
        count = int(torch.count_nonzero(running))
        if count < len(x) and isinstance(self.function, Summed):
            slack = change.slack(self.tol, self.function, unproven)
            if count == 0 and float(slack.amin()) >= 0:
                return change.residual, running, 0
            running = unproven.logical_or(slack < 0)
            by_norm, count = count, int(torch.count_nonzero(running))
            if count > by_norm and (self.lagged or last):
                change.raise_lagging(self.tol, self.function, slack)
                running = unproven.logical_or_(change.residual > self.tol)
                count = int(torch.count_nonzero(running))
            self.lagged |= count > by_norm
        return change.residual, running, count

    def _unconfirmed(self, residual: Tensor, last: bool) -> Tensor:
        """Return which samples do not pass by norm, or only just and for the first time."""
        running = residual > self.tol
        if not self.method.confirms or last:
            return running
        before, self.passed = self.passed, ~running
        just = residual > _CLEARLY * self.tol
        return just if before is None else just.logical_and_(~before).logical_or_(running)

    def _freeze(
        self, x: Tensor, image: Tensor, residual: Tensor, iteration: int, running: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Write down the samples that are finished and go on with the others."""
        self._write(self._better(x, image), residual, iteration)
        kept = running.nonzero().squeeze(1)
        self.rows = kept if self.rows is None else self.rows.index_select(0, kept)
        self.function = self.function.restrict(kept)
        self.method.restrict(kept)
        if self.passed is not None:
            self.passed = self.passed.index_select(0, kept)
        if self.scale is not None:
            self.scale = self.scale.index_select(0, kept)
        return (
            x.index_select(0, kept),
            image.index_select(0, kept),
            residual.index_select(0, kept),
        )

    def _better(self, x: Tensor, image: Tensor) -> Tensor:
        """Return f(x) where the rule vouches for it; of any other f, x is what was judged."""
        if isinstance(self.function, Summed):
            return image
        return x.clone() if x is self.start else x

    def _write(self, value: Tensor, residual: Tensor, iteration: int) -> None:
        # The rows still running are overwritten when they finish.
        if self.value is None or self.rows is None:
            self.value, self.residuals = value, residual
            self.iterations = torch.full((len(value),), iteration, device=value.device)
        else:
            self.value.index_copy_(0, self.rows, value)
            self.residuals.index_copy_(0, self.rows, residual)
            self.iterations.index_fill_(0, self.rows, iteration)

    def _finish(self, value: Tensor, residual: Tensor, iteration: int) -> FixedPointResult:
        self._write(value, residual, iteration)
        assert self.value is not None, "written just above"
        converged = self.residuals <= self.tol
        if bool(converged.all()):
            status = SolveStatus.CONVERGED
        elif bool(self.residuals.isfinite().all()):
            status = SolveStatus.MAX_ITERATIONS
        else:
            status = SolveStatus.NON_FINITE
        return FixedPointResult(self.value, self.iterations, self.residuals, converged, status)


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
