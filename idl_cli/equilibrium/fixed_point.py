"""Batched fixed points x = f(x), one result a sample; methods supply the steps.

A sample that has converged stands still. Which iterations are looked at depends on their number
alone, so the result of a sample does not depend on the batch it is in (up to the rounding of a
matrix product of another size).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from idl_cli.equilibrium.choose import step_method
from idl_cli.equilibrium.engine import Iterations, solve
from idl_cli.equilibrium.iterations.linearised import Linearised
from idl_cli.equilibrium.iterations.secants import Secants
from idl_cli.equilibrium.iterations.step_method import StepMethod
from idl_cli.equilibrium.policy import Policy
from idl_cli.equilibrium.residual import Summed, reachable, select
from idl_cli.equilibrium.result import FixedPointResult
from idl_cli.equilibrium.settings import FixedPointSettings
from idl_cli.errors import ShapeError

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

    def recorded(self, x: Tensor) -> bool:
        """Whether ``repeated`` is one call for all steps from an x (m, n) of this shape alone."""
        return False

    def repeated(self, x: Tensor, spare: Tensor | None, count: int) -> tuple[Tensor, Tensor | None]:
        """Take so many steps from x (m, n); return what they reach, and what is spare then.

        Args:
            x: iterates; may be overwritten.
            spare: may hold the next (m, n).
            count: of steps.
        """
        for _ in range(count):
            x, spare = self(x, spare), x
        return x, spare


def solve_fixed_point(
    function: SampleMap | Callable[[Tensor], Tensor],
    start: Tensor,
    settings: FixedPointSettings,
    *,
    scale: Tensor | None = None,
    overwrite: bool = False,
    secants: Secants | None = None,
) -> FixedPointResult:
    """Solve x = f(x) for every sample.

    No graph is recorded: gradients come from the implicit function theorem.

    Args:
        function: f, from (m, n) to (m, n), each sample by itself.
        start: first iterates (m, n); not overwritten unless ``overwrite``.
        settings: method, tolerance and limits.
        scale: what each sample's ‖f(x) − x‖∞ is divided by (m,); its own size where it is None.
        overwrite: whether ``start`` may hold later iterates, and the result.
        secants: where Anderson's method keeps its windows.

    Raises:
        ArgumentError: ``secants`` are asked for of another method.
        ShapeError: ``start`` or an f(x) is not (m, n).
    """
    if start.dim() != 2:
        raise ShapeError(f"start has shape {tuple(start.shape)}; expected (samples, states).")
    with torch.no_grad():
        start = start.detach() if overwrite else start.detach().clone()
        mapped = function if isinstance(function, SampleMap) else _WholeBatchMap(function, start)
        tol = reachable(settings.tol, start.dtype)
        method = step_method(settings, function, start, tol, secants)
        return solve(
            Steps(mapped, method, start),
            _Each(function, method, mapped.recorded(start)),
            max_iter=settings.max_iter,
            tol=settings.tol,
            scale=scale,
        )


class Steps(Iterations):
    """x, and f(x) once it is known; a method makes the next x of both.

    Args:
        function: f.
        method: of the steps.
        x: first iterates (m, n); may be overwritten.
        spare: to hold the next (m, n).
    """

    def __init__(
        self, function: SampleMap, method: StepMethod, x: Tensor, spare: Tensor | None = None
    ) -> None:
        self._function = function
        self._method = method
        self._x = x
        self._image: Tensor | None = None
        self._spare = spare

    @property
    def recovers(self) -> bool:  # type: ignore[override]
        """Whether the method does."""
        return self._method.recovers

    @property
    def summed(self) -> Summed | None:
        """f, where it is a sum."""
        return self._function if isinstance(self._function, Summed) else None

    def advance(self, count: int) -> int:
        """Take so many plain steps, or one of another kind."""
        if not self._method.passive:
            self._move(self._function(self._x, self._spare), None)
            return 1
        self._x, self._spare = self._function.repeated(self._x, self._spare, count)
        return count

    def look(self) -> tuple[Tensor, Tensor]:
        """Evaluate f."""
        self._image = self._function(self._x, self._spare)
        return self._x, self._image

    def go_on(self, residual: Tensor) -> int:
        """Take the method's step."""
        assert self._image is not None, "looked at before"
        self._move(self._image, residual)
        return self._method.spent

    def _move(self, image: Tensor, residual: Tensor | None) -> None:
        following = self._method.step(self._function, self._x, image, residual)
        self._spare = self._x if following is image else image
        self._x, self._image = following, None

    def restrict(self, samples: Tensor) -> None:
        """Go on with these samples alone."""
        self._function = self._function.restrict(samples)
        self._method.restrict(samples)
        self._x = select(self._x, samples)
        self._spare = torch.empty_like(self._x)
        if self._image is not None:
            self._image = select(self._image, samples)


class _Each(Policy):
    """Looks when the method says; every sample that has converged is written down at once."""

    def __init__(
        self, function: Callable[[Tensor], Tensor], method: StepMethod, recorded: bool
    ) -> None:
        self._method = method
        self._recorded = recorded
        # Of a step with one sample; 0 where a finished sample must stand still.
        self._multiplications = function.multiplications if isinstance(function, Linearised) else 0
        self.lags = method.steered

    @property
    def check(self) -> int:  # type: ignore[override]
        """The method's."""
        return self._method.check

    @property
    def confirms(self) -> bool:  # type: ignore[override]
        """Whether the method does."""
        return self._method.confirms

    def parts(self, worst: float, tol: float, values: int) -> bool:
        """Return True."""
        return True

    def parted(self, running: int, samples: int, worst: float) -> bool:
        """Return True."""
        return True

    def stays(self, finished: int) -> bool:
        """Return whether plain steps of these samples take next to nothing."""
        if self._recorded:
            return not self._method.recovers
        spared = finished * self._multiplications
        return 0 < spared <= _SPARED and not (self._method.recovers or self._method.confirms)


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
