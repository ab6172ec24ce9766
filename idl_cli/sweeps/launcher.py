"""Launch the jobs of a sweep through any of Hydra's launchers, whatever happens to some of them.

Between a sweeper, which asks for jobs, and a launcher, which runs them, ``SweepLauncher`` places
every job in the sweep's plan: finished ones are not run again, others keep their number, and those
whose process was killed are told from those that only shared a pool with it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from idl_cli.assembly.optimized_metric import optimized_value
from idl_cli.errors import IdlError, RunError
from idl_cli.jobs.interruption import jobs_stopped_first
from idl_cli.jobs.parallel import (
    cores,
    jobs_at_once,
    limited_threads,
    runs_side_by_side,
    threads_each,
)
from idl_cli.jobs.request_record import mask_multirun
from idl_cli.reporting import Reporter
from idl_cli.run import mark_failed, mark_interrupted, read_summary
from idl_cli.run.records import CONFIG, SUMMARY
from idl_cli.sweeps.sweep_plan import SweepPlan

_LOG = logging.getLogger(__name__)
_DIED = (
    "killed: its process ended without a word (kill -9, out of memory, or a crash in native code)"
)

_LAST_MOMENTS: Final = 10.0  # s in which a process that was killed is gone
_POLL: Final = 0.05  # s

_LEFT: Final = (
    ("completed", "finished and kept"),
    ("failed", "failed, run again"),
    ("killed", "killed, run again"),
    ("interrupted", "interrupted, run again"),
    ("new", "new"),
)
"""What becomes of the jobs of a sweep that goes on, by how they ended before."""


class SweepLauncher(Launcher):
    """A launcher around the chosen one.

    Args:
        inner: the launcher that runs jobs, set up.
        config: the sweep's configuration.
        plan: of the sweep; extended by the jobs that are asked for.
        metric: what the sweeper gets to see of a job.
        console: told how many jobs run at once.
    """

    def __init__(
        self,
        inner: Launcher,
        config: DictConfig,
        plan: SweepPlan,
        metric: str | None,
        console: Reporter,
    ) -> None:
        launcher = OmegaConf.to_container(config.hydra.launcher, resolve=False)
        assert isinstance(launcher, dict)
        self._settings: Mapping[str, Any] = {str(key): value for key, value in launcher.items()}
        self._inner = inner
        self._config = config
        self._plan = plan
        self._metric = metric
        self._console = console
        self._is_grid = is_grid(config.hydra)

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Do nothing: the launcher inside is set up already."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs that are not finished, and return what all of them came to.

        Args:
            job_overrides: of every job asked for.
            initial_job_idx: Hydra's own count, which starts anew with every process; jobs are
                numbered by the plan.

        Raises:
            KeyboardInterrupt: SIGINT or SIGTERM came.
        """
        del initial_job_idx
        mask_multirun(self._plan.directory, self._config)
        numbers = [self._plan.place(each, repeats=self._is_grid) for each in job_overrides]
        self._plan.save()
        every = self._plan.asked_for if self._is_grid else numbers
        statuses = {number: self._plan.status(number) for number in every}
        to_run = [number for number, status in statuses.items() if status != "completed"]
        if self._is_grid and set(statuses.values()) != {"new"}:
            self._tell_what_is_left(statuses)
        if to_run and runs_side_by_side(self._settings):
            self._run_side_by_side(to_run)
        elif to_run and "submitit_folder" in self._settings:
            self._run_by_submitit(to_run)
        else:
            for group in consecutive(to_run):
                self._inner.launch([self._plan.jobs[number] for number in group], group[0])
        return [self._returned(number) for number in numbers]

    def _tell_what_is_left(self, statuses: Mapping[int, str]) -> None:
        count = Counter(statuses.values())
        parts = [f"{count[status]} {meaning}" for status, meaning in _LEFT if count[status]]
        others = len(self._plan.jobs) - len(statuses)
        parts += [f"{others} not asked for and left as they are"] if others else []
        self._console.message(f"continuing {self._plan.directory}: {'; '.join(parts)}")

    # -- several at once ------------------------------------------------------------------------

    def _run_side_by_side(self, numbers: Sequence[int]) -> None:
        at_once = jobs_at_once(self._settings, len(numbers))
        threads = threads_each(at_once, cores(), self._config.get("threads"))
        share = "1 thread" if threads == 1 else f"{threads} threads"
        self._console.message(f"{len(numbers)} jobs, {at_once} at a time, {share} each")
        with limited_threads(threads):
            if "submitit_folder" in self._settings:  # which would start all of them at once
                for first in range(0, len(numbers), at_once):
                    self._run_by_submitit(numbers[first : first + at_once])
            else:
                self._run_in_pool(numbers)

    def _run_in_pool(self, numbers: Sequence[int]) -> None:
        """Run jobs in a pool of processes, which breaks when one of them is killed.

        All jobs that were running then go down with it. Those that never started run in a new
        pool; those that went down run again one by one: who is killed then has only itself to
        blame.
        """
        waiting, suspects = list(numbers), list[int]()
        while waiting:
            error, ended, started = self._attempt(waiting)
            if error is None:
                break
            if not started:
                raise error
            down = [number for number in started if number not in ended]
            self._console.warning(
                f"a worker process was killed while job {', '.join(map(str, down))} ran: "
                "running what is left in a new pool"
            )
            suspects += down
            waiting = [number for number in waiting if number not in started]
        for number in suspects:
            error, ended, _ = self._attempt([number])
            if error is not None and number not in ended:
                self._record_death(number, _DIED)

    def _attempt(
        self, numbers: Sequence[int]
    ) -> tuple[Exception | None, frozenset[int], frozenset[int]]:
        """Launch jobs; return the error that broke the pool, who had ended by then, who started."""
        before = {number: self._traces(number) for number in numbers}
        killed = {number for number in numbers if self._plan.status(number) == "killed"}
        paths = [self._plan.path(number) for number in numbers]
        try:
            with jobs_stopped_first(paths, self._console.warning):
                self._inner.launch([self._pinned(number) for number in numbers], 0)
        except (HydraException, IdlError):
            raise
        except KeyboardInterrupt:
            started = {n for n in numbers if self._traces(n)[0] not in (None, before[n][0])}
            self._record_interruption(started | set(numbers) - killed)
            raise
        except Exception as error:
            after = {number: self._traces(number) for number in numbers}
            ended = {n for n in numbers if after[n][1] not in (None, before[n][1])}
            started = {n for n in numbers if after[n][0] not in (None, before[n][0])}
            return error, frozenset(ended), frozenset(started)
        return None, frozenset(numbers), frozenset(numbers)

    def _traces(self, number: int) -> tuple[int | None, int | None]:
        """When a job's configuration and summary were written: what it leaves when it starts."""
        path = self._plan.path(number)
        return _written_at(path / CONFIG), _written_at(path / SUMMARY)

    def _pinned(self, number: int) -> list[str]:
        """A job's overrides with its directory: launchers count jobs from the first they get."""
        return [*self._plan.jobs[number], f"hydra.sweep.subdir={number}"]

    # -- submitit ---------------------------------------------------------------------------------

    def _run_by_submitit(self, numbers: Sequence[int]) -> None:
        from idl_cli.sweeps.submitit import submit

        killed = {number for number in numbers if self._plan.status(number) == "killed"}
        try:
            outcomes = submit(
                self._inner,
                [self._pinned(number) for number in numbers],
                self._settings,
                paths=[self._plan.path(number) for number in numbers],
                tell=self._console.warning,
            )
        except KeyboardInterrupt:
            if runs_side_by_side(self._settings):  # not in a queue, where they go on
                self._record_interruption(set(numbers) - killed)
            raise
        for number, error in zip(numbers, outcomes, strict=True):
            if error is not None and self._plan.status(number) != "failed":
                self._record_death(number, error)

    # -- what came of it --------------------------------------------------------------------------

    def _record_death(self, number: int, sentence: str) -> None:
        """Write down for a job that it died, since it cannot do so itself."""
        mark_failed(self._plan.path(number), command=self._plan.command, error=sentence)
        self._console.error(f"job {number} failed: {sentence}")

    def _record_interruption(self, numbers: Collection[int]) -> None:
        """Write down for the jobs that were killed with their pool that they were interrupted.

        Those that had the time to save where they were have done so themselves.
        """
        deadline = time.monotonic() + _LAST_MOMENTS
        for number in sorted(numbers):
            while self._plan.status(number) == "running" and time.monotonic() < deadline:
                time.sleep(_POLL)
            if self._plan.status(number) == "killed":
                mark_interrupted(self._plan.path(number), command=self._plan.command)

    def _returned(self, number: int) -> JobReturn:
        """What the sweeper gets to know, read from the job's directory.

        A grid goes on whatever becomes of its jobs, so it hears of no failure; a sampler has to
        know which of its points gave nothing.
        """
        returned = JobReturn()
        returned.overrides = list(self._plan.jobs[number])
        returned.status = JobStatus.COMPLETED
        status = self._plan.status(number)
        if status == "completed":
            returned.return_value = optimized_value(
                self._metric, read_summary(self._plan.path(number))
            )
        elif self._is_grid:
            returned.return_value = None
        else:
            returned.return_value = RunError(f"job {number}: {self._error(number, status)}")
            returned.status = JobStatus.FAILED
        return returned

    def _error(self, number: int, status: str) -> str:
        try:
            return str(read_summary(self._plan.path(number)).get("error", status))
        except RunError:
            return status


def is_grid(hydra: DictConfig) -> bool:
    """Whether Hydra's part of a configuration asks for every combination of the values given."""
    return str(hydra.sweeper._target_).endswith(".BasicSweeper")


def consecutive(numbers: Sequence[int]) -> Iterator[list[int]]:
    """Split numbers into runs that follow one another without a gap."""
    group: list[int] = []
    for number in numbers:
        if group and number != group[-1] + 1:
            yield group
            group = []
        group.append(number)
    if group:
        yield group


def _written_at(file: Path) -> int | None:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return None
