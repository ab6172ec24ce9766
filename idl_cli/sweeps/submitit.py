"""Hand the jobs of a sweep to submitit and wait for every one of them, however the others end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import submitit
from hydra.core.singleton import Singleton
from hydra.plugins.launcher import Launcher
from submitit.core.utils import UncompletedJobError

from idl_cli.distributed.process import ignoring_sigint
from idl_cli.jobs.interruption import jobs_stopped_first, kill_jobs

_FOR_EVERY_CLUSTER: Final = (
    "timeout_min",
    "cpus_per_task",
    "gpus_per_node",
    "tasks_per_node",
    "mem_gb",
    "nodes",
    "name",
    "stderr_to_stdout",
)
"""Parameters that submitit knows without the name of a cluster in front."""


def submit(
    launcher: Launcher,
    job_overrides: Sequence[Sequence[str]],
    settings: Mapping[str, Any],
    *,
    paths: Sequence[Path],
    tell: Callable[[str], None],
) -> list[str | None]:
    """Submit jobs as one array and wait until the last has ended.

    Args:
        launcher: Hydra's submitit launcher, set up: called in the job's process, it runs the job.
        job_overrides: of every job; its directory is among them.
        settings: the launcher's configuration.
        paths: the directory of every job.
        tell: told, when a signal comes, what is waited for.

    Returns:
        For every job None, or why its process gave no result.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came; jobs on this machine have ended, those in a
            queue go on.
    """
    cluster = "slurm" if str(settings["_target_"]).endswith("SlurmLauncher") else "local"
    parameters = dict(launcher.params)  # type: ignore[attr-defined]
    folder = parameters.pop("submitit_folder")
    retries = parameters.pop("max_num_timeout", 0)
    executor = submitit.AutoExecutor(
        folder=folder, cluster=cluster, **{f"{cluster}_max_num_timeout": retries}
    )
    executor.update_parameters(
        **{
            name if name in _FOR_EVERY_CLUSTER else f"{cluster}_{name}": value
            for name, value in parameters.items()
        }
    )
    count = len(job_overrides)
    arguments: tuple[list[Any], ...] = (
        [list(overrides) for overrides in job_overrides],
        ["hydra.sweep.dir"] * count,
        list(range(count)),
        [str(number) for number in range(count)],
        [Singleton.get_state()] * count,
    )
    if cluster == "slurm":
        return [_outcome(job) for job in executor.map_array(launcher, *arguments)]
    with ignoring_sigint():
        jobs = executor.map_array(launcher, *arguments)
    try:
        with jobs_stopped_first(paths, tell, lambda: all(job.done() for job in jobs)):
            return [_outcome(job) for job in jobs]
    except KeyboardInterrupt:
        kill_jobs(paths)
        raise


def _outcome(job: submitit.Job[Any]) -> str | None:
    try:
        job.results()
    except UncompletedJobError:
        return (
            "killed: its process ended without a result (kill -9, out of time or memory); what it "
            f"printed is in {job.paths.stderr}"
        )
    return None
