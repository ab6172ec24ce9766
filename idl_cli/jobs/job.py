"""One job: from the composed configuration to a finished run directory.

Hydra calls a ``Job`` with the configuration it composed, once for a run, once a job for a sweep,
possibly in another process. Whatever happens is in the run's ``summary.json`` and log
before the task returns or raises: a sweep goes on after a job that failed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from idl_cli.config.check import instantiate
from idl_cli.errors import RunError
from idl_cli.jobs.interruption import end_with_sweep, wait_for_the_end_of_the_pool
from idl_cli.jobs.outcome import is_finished, recorded
from idl_cli.jobs.parallel import device_of_job, runs_side_by_side
from idl_cli.jobs.request_record import record_request
from idl_cli.requests.preflight import checked_settings
from idl_cli.requests.specification import Command, Commands

if TYPE_CHECKING:
    from idl_cli.distributed.store import MeetingPlace
    from idl_cli.reporting import Reporter
    from idl_cli.run import RunDirectory

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What Hydra calls with a configuration; travels to the processes that run a sweep's jobs.

    Attributes:
        command: what is run.
        commands: all that there are.
    """

    command: Command
    commands: Commands

    def __call__(self, config: DictConfig) -> float | None:
        """Run one job; return the optimised metric."""
        output = Path(HydraConfig.get().runtime.output_dir)
        beside_others = _job_number() is not None and runs_side_by_side(HydraConfig.get().launcher)
        if beside_others:
            end_with_sweep(output.parent)
        try:
            return self.run_in(output, config, None)
        except KeyboardInterrupt:
            if beside_others:
                wait_for_the_end_of_the_pool(output.parent)
            raise

    def run_in(
        self, output: Path, config: DictConfig, meeting: MeetingPlace | None
    ) -> float | None:
        """Run one job, or one rank's part of it where another launcher has started them.

        Args:
            output: the run directory, of all ranks.
            config: composed.
            meeting: where the ranks meet; None of a process started alone.

        Returns:
            The optimised metric; None on other ranks than the first.
        """
        from idl_cli.jobs.ranks import reporter_of
        from idl_cli.jobs.torchrun import together
        from idl_cli.run import RunDirectory
        from idl_cli.run.shared import ObservedRunDirectory

        command = self.command
        seed = config.get("seed")
        rank = 0 if meeting is None else meeting.place.rank
        continues = config.get("resume") == "auto" or _is_unfinished_job(output)
        with (
            reporter_of(rank) as console,
            ObservedRunDirectory(output, command=command.name, seed=seed)
            if rank
            else RunDirectory(
                output, command=command.name, seed=seed, resume=continues
            ) as directory,
            self._reported(
                directory, console, wanted=rank == 0 and config.get("report") is not False
            ),
            recorded(directory, console, _job_number()),
        ):
            if rank == 0:
                record_request(directory, config, cast(Any, HydraConfig.instance().cfg))
            with nullcontext() if meeting is None else together(meeting, directory):
                values = checked_settings(config, command, self.commands)
                settings = instantiate(command.schema, values)
                if continues:
                    settings = _continuing(settings, directory, console)
                result = _perform(command, settings, directory, console, meeting)
            if rank:
                return None
            if not is_finished(directory):
                sections = {key: value for key, value in result.items() if key != "metrics"}
                directory.finish("completed", result.get("metrics", result), sections=sections)
            return _optimized(settings.optimized_metric, result, console)

    @contextmanager
    def _reported(
        self, directory: RunDirectory, console: Reporter, *, wanted: bool
    ) -> Iterator[None]:
        """Leave a page about the run behind, however it ended; never fail it for that."""
        try:
            yield
        finally:
            if wanted and directory.path.is_dir():
                from idl_cli.reports.run_page import REPORT, run_page

                try:
                    directory.write_text(REPORT, run_page(directory.path, self.commands))
                except Exception as error:
                    _LOG.debug("%s", REPORT, exc_info=True)
                    console.warning(f"{REPORT} was not written: {type(error).__name__}: {error}")


def _perform(
    command: Command,
    settings: Any,
    directory: RunDirectory,
    console: Reporter,
    meeting: MeetingPlace | None,
) -> dict[str, Any]:
    """Do the command's work: here, or on one process a device where it asks for several."""
    from idl_cli.jobs.ranks import perform, planned_devices, run_on_ranks
    from idl_cli.jobs.torchrun import perform_joined

    if meeting is not None:
        return perform_joined(command, settings, directory, console, meeting)
    devices = planned_devices(command, settings, assigned=_device(settings.device))
    if len(devices) == 1:
        return perform(command, replace(settings, device=devices[0]), directory, console)
    log: Any = OmegaConf.to_container(HydraConfig.get().job_logging, resolve=True)
    return run_on_ranks(command, settings, directory, console, devices=devices, log=log)


def _is_unfinished_job(output: Path) -> bool:
    """Whether a job of a sweep finds that it was started before and did not complete.

    It then goes on where it was, whether the sweep is continued or a cluster has put the job back
    into its queue.
    """
    from idl_cli.run import run_status

    # One that was interrupted at once has a summary, and no record of its request yet.
    begun = (output / ".hydra").is_dir() or (output / "summary.json").is_file()
    if _job_number() is None or not begun:
        return False
    try:
        return run_status(output) in ("failed", "interrupted", "killed")
    except RunError:  # its summary is damaged: it goes on from its checkpoint
        return True


def _continuing(settings: Any, directory: RunDirectory, console: Reporter) -> Any:
    """The settings of a run that goes on; what cannot go on begins anew.

    A job of a sweep goes on without having been asked, so a damaged checkpoint does not stop it.
    """
    from idl_cli.run.takeover import damage_of

    if getattr(settings, "resume", None):
        return settings
    damage = damage_of(directory.path)
    if damage is not None:
        console.warning(f"{damage}; the job begins anew")
    if damage is not None or not hasattr(settings, "resume"):
        directory.replace_metrics([])
        return settings
    return replace(settings, resume="auto")


def _device(wanted: str) -> str:
    """The job's own GPU where several jobs of a sweep run at once on this machine."""
    hydra = HydraConfig.get()
    if _job_number() is None or not runs_side_by_side(hydra.launcher):
        return wanted
    from idl_cli.distributed.devices import visible_gpus

    return device_of_job(int(hydra.job.num), wanted, visible_gpus())


def _job_number() -> int | None:
    """The job's number in its sweep, None in a run; its directory is named after it."""
    hydra = HydraConfig.get()
    if OmegaConf.is_missing(hydra.job, "num"):
        return None
    name = Path(hydra.runtime.output_dir).name
    return int(name) if name.isdigit() else int(hydra.job.num)


def _optimized(name: str | None, result: Mapping[str, Any], console: Reporter) -> float | None:
    """The figure for a sweeper; where there is none to compare, it counts the job as failed."""
    from idl_cli.assembly.optimized_metric import optimized_value

    value = optimized_value(name, result)
    if name is not None and value is None:
        console.warning(
            f"optimized_metric={name}: is no finite number here; a sweeper counts the run as failed"
        )
    return value
