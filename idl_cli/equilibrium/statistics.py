"""How the solves of one model went since the last reset: iterations, residuals, failures."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from idl_cli.equilibrium.result import FixedPointResult, SolveStatus
from idl_cli.errors import ConvergenceWarning

# Results are kept as tensors on their device, so that recording costs no synchronisation, and are
# reduced once there are this many.
_FOLD_EVERY = 256


class SolveStatistics:
    """Accumulates the solves of one model, forward and backward apart.

    Args:
        warn: whether the first solve of equilibria, and the first of adjoints, that does not
            converge since the last reset gives a ConvergenceWarning. One that reports failures in
            its own way, as the trainer does once an epoch, sets this to False.

    Attributes:
        warn: as above; may be set at any time.
    """

    def __init__(self, *, warn: bool = True) -> None:
        self.warn = warn
        self._forward = _Direction()
        self._backward = _Direction()
        self._gradient_error: Tensor | None = None

    def record_forward(self, result: FixedPointResult, seconds: float = 0.0) -> None:
        """Add the solve of a batch of equilibria, and how long it took."""
        self._forward.seconds += seconds
        self._record(self._forward, result, "equilibria")

    def record_backward(self, result: FixedPointResult, seconds: float = 0.0) -> None:
        """Add the solve of a batch of adjoints, and how long it took."""
        self._backward.seconds += seconds
        self._record(self._backward, result, "adjoint states (gradients)")

    def record_gradient_error(self, errors: Tensor) -> None:
        """Add the relative errors (m,) of approximate adjoints; NaN counts as infinite."""
        worst = errors.nan_to_num(nan=torch.inf).max().double()
        known = self._gradient_error
        self._gradient_error = (
            worst if known is None else torch.maximum(known.to(worst.device), worst)
        )

    def reset(self) -> None:
        """Forget everything, and that warnings were given."""
        self._forward = _Direction()
        self._backward = _Direction()
        self._gradient_error = None

    def summary(self) -> dict[str, float]:
        """Return the figures since the last reset, under the names of ``metrics.jsonl``.

        ``iterations_mean``, ``iterations_max``, ``unconverged_share`` (of the samples) and
        ``residual_max`` of the forward solves, and the same prefixed with ``backward_``; a
        direction without a solve is left out. A NaN residual counts as infinite.
        ``gradient_error_max`` is there where approximate adjoints were compared with exact ones.
        """
        return (
            self._forward.summary("")
            | self._backward.summary("backward_")
            | self._error_of_gradient()
        )

    def seconds(self) -> dict[str, float]:
        """Return the wall-clock seconds of the solves since the last reset.

        ``equilibrium_seconds`` and ``adjoint_seconds``; a direction without a solve is left out,
        and so are inexact adjoints, which take a few steps. Of a recurrence the way from step to
        step is in them. A GPU's are those until a solve is known to be done.
        """
        named = {"equilibrium_seconds": self._forward, "adjoint_seconds": self._backward}
        return {name: solves.seconds for name, solves in named.items() if solves.seconds}

    def state_dict(self) -> dict[str, dict[str, float]]:
        """Return the counts as plain numbers, from which counting can go on exactly."""
        return {
            "forward": self._forward.state_dict(),
            "backward": self._backward.state_dict(),
            "gradient": self._error_of_gradient(),
        }

    def load_state_dict(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Go on from the counts that ``state_dict`` returned."""
        self._forward = _Direction.from_state(state["forward"])
        self._backward = _Direction.from_state(state["backward"])
        self._gradient_error = None
        self._merge_error(state)

    def merge(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Add the counts of other solves, as their ``state_dict`` returned them."""
        self._forward.merge(state["forward"])
        self._backward.merge(state["backward"])
        self._merge_error(state)

    def _merge_error(self, state: Mapping[str, Mapping[str, float]]) -> None:
        for error in state.get("gradient", {}).values():
            self.record_gradient_error(torch.tensor([error], dtype=torch.float64))

    def _error_of_gradient(self) -> dict[str, float]:
        error = self._gradient_error
        return {} if error is None else {"gradient_error_max": float(error)}

    def _record(self, direction: _Direction, result: FixedPointResult, what: str) -> None:
        direction.add(result)
        if result.status is SolveStatus.CONVERGED or direction.warned or not self.warn:
            return
        direction.warned = True
        failed = int((~result.converged).sum())
        worst = float(result.residuals.nan_to_num(nan=float("inf")).max())
        warnings.warn(
            f"{failed} of {len(result.converged)} {what} did not converge: {result.status.value} "
            f"(largest residual {worst:.3g}, at most {int(result.iterations.max())} iterations). "
            "Raise max_iter or tol, or check the inputs for NaN; further failures are counted in "
            "solve_statistics without a warning until its reset().",
            ConvergenceWarning,
            stacklevel=2,
        )


class _Direction:
    """Running sums over the samples of one kind of solve."""

    def __init__(self) -> None:
        self.warned = False
        self.seconds = 0.0
        self._results: list[tuple[int | Tensor, Tensor, Tensor | None]] = []
        self._samples = 0
        self._unconverged = 0
        self._iterations_sum = 0
        self._iterations_max = 0
        self._residual_max = 0.0

    def add(self, result: FixedPointResult) -> None:
        if self._results and self._results[0][1].device != result.residuals.device:
            self._fold()
        converged = None if result.status is SolveStatus.CONVERGED else result.converged
        self._results.append((result.spent, result.residuals, converged))
        if len(self._results) >= _FOLD_EVERY:
            self._fold()

    def summary(self, prefix: str) -> dict[str, float]:
        self._fold()
        if not self._samples:
            return {}
        return {
            f"{prefix}iterations_mean": self._iterations_sum / self._samples,
            f"{prefix}iterations_max": float(self._iterations_max),
            f"{prefix}unconverged_share": self._unconverged / self._samples,
            f"{prefix}residual_max": self._residual_max,
        }

    def state_dict(self) -> dict[str, float]:
        self._fold()
        return {
            "samples": self._samples,
            "unconverged": self._unconverged,
            "iterations_sum": self._iterations_sum,
            "iterations_max": self._iterations_max,
            "residual_max": self._residual_max,
            "seconds": self.seconds,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, float]) -> _Direction:
        direction = cls()
        direction.merge(state)
        return direction

    def merge(self, state: Mapping[str, float]) -> None:
        self._samples += int(state["samples"])
        self._unconverged += int(state["unconverged"])
        self._iterations_sum += int(state["iterations_sum"])
        self._iterations_max = max(self._iterations_max, int(state["iterations_max"]))
        self._residual_max = max(self._residual_max, state["residual_max"])
        self.seconds += state.get("seconds", 0.0)  # older states have none

    def _fold(self) -> None:
        results = [each for each in self._results if len(each[1])]
        self._results.clear()
        if not results:
            return
        apart = [spent for spent, _, _ in results if isinstance(spent, Tensor)]
        if apart:
            each = torch.cat(apart)
            self._iterations_sum += int(each.sum())
            self._iterations_max = max(self._iterations_max, int(each.max()))
        for spent, residuals, _ in results:
            if isinstance(spent, int):
                self._iterations_sum += spent * len(residuals)
                self._iterations_max = max(self._iterations_max, spent)
        failed = [~converged for _, _, converged in results if converged is not None]
        if failed:
            self._unconverged += int(torch.cat(failed).sum())
        residuals = torch.cat([residuals for _, residuals, _ in results])
        self._samples += len(residuals)
        worst = float(residuals.nan_to_num(nan=float("inf")).max())
        self._residual_max = max(self._residual_max, worst)
