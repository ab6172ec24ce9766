"""What a state-driven training tells while it works: bars, lines of convergence, iterates kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

from idl_cli.commands.sim.checkpoints import StageCheckpoints
from idl_cli.loggers import RunLogger
from idl_cli.reporting import ProgressReporter, Reporter
from idl_cli.sim.fit.callbacks import Pass, SimCallbacks, Stage
from idl_cli.sim.fit.fits import Fit, StageFit
from idl_cli.sim.regression.monitor import HistoryEntry


class SimProgress(SimCallbacks):
    """Listens to the passes and solves of one training.

    Args:
        logger: gets the convergence of the fit that is kept.
        console: shows the bars.
        checkpoints: where a long solve stands.
        checkpoint_seconds: between two times that an iterate is kept.
        one_penalty: whether one fit is made, whose iterate is the one to continue with.
    """

    def __init__(
        self,
        logger: RunLogger,
        console: Reporter,
        checkpoints: StageCheckpoints,
        *,
        checkpoint_seconds: float,
        one_penalty: bool,
    ) -> None:
        self._logger = logger
        self._console = console
        self._checkpoints = checkpoints
        self._bar: ProgressReporter | None = None
        self._counted = 0
        self._logs = one_penalty
        self.iterate_seconds = checkpoint_seconds if one_penalty else None

    def on_samples(self, name: Pass, count: int) -> None:
        """Move the bar of a pass."""
        if self._bar is not None:
            self._bar.advance(count - self._counted if count > self._counted else count)
            self._bar.note(f"{name}: {count:,} samples")
        self._counted = count

    def on_progress(self, stage: Stage, entry: HistoryEntry) -> None:
        """Keep one line of the convergence, and show the gap."""
        if self._bar is not None:
            self._bar.note(f"[{stage[0].upper()} {stage[1].upper()}] {entry.relative_gap:.1e}")
        if self._logs:
            self._log(stage, entry)

    def on_iterate(self, stage: Stage, state: Mapping[str, Tensor]) -> None:
        """Keep where a long solve stands."""
        self._checkpoints.write(stage, state)

    def restored_iterate(self, stage: Stage) -> Mapping[str, Tensor] | None:
        """Where the solve of the run to continue stood."""
        return None if self.iterate_seconds is None else self._checkpoints.read(stage)

    @contextmanager
    def bar(self, label: str) -> Iterator[None]:
        """Show what is told meanwhile on a bar."""
        with self._console.progress(label) as progress:
            self._bar, self._counted = progress, 0
            try:
                yield
            finally:
                self._bar = None

    def log_history(self, found: Fit) -> None:
        """Write down how the solves of the fit that is kept converged; the others' are not."""
        stages: tuple[tuple[Stage, StageFit], ...] = (("ab", found.ab), ("cd", found.cd))
        for stage, part in stages:
            for entry in part.solution.history:
                self._log(stage, entry)

    def _log(self, stage: Stage, entry: HistoryEntry) -> None:
        self._logger.log(
            {
                "step": entry.iterations,
                "epoch": None,
                "split": stage,
                "objective": entry.objective,
                "relative_gap": entry.relative_gap,
                "rows_solved": entry.rows_solved,
                "seconds": entry.seconds,
            }
        )
