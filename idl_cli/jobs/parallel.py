"""Sharing a machine among the jobs of a sweep that run at the same time: threads and devices."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from idl_cli.distributed.environment import environment_variables

_LIMITS: Final = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""Read by torch and by the BLAS libraries under NumPy, SciPy and cvxpy when they start."""

_SIDE_BY_SIDE: Final = ("JoblibLauncher", "LocalLauncher")
"""Launchers that run several jobs of a sweep at once on this machine."""


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def jobs_at_once(launcher: Mapping[str, Any], jobs: int) -> int:
    """How many of ``jobs`` a launcher runs at the same time on this machine.

    Args:
        launcher: Hydra's configuration of it.
        jobs: how many there are to run.
    """
    if not runs_side_by_side(launcher):
        return 1
    per_job = launcher.get("cpus_per_task") or 1
    wanted = launcher.get("n_jobs", max(cores() // int(per_job), 1))
    if wanted is None:
        wanted = 1
    if wanted < 0:  # joblib: -1 for all cores, -2 for all but one
        wanted = max(cores() + 1 + wanted, 1)
    return max(1, min(int(wanted), jobs))


def runs_side_by_side(launcher: Mapping[str, Any]) -> bool:
    """Whether a launcher runs several jobs at once on this machine."""
    return str(launcher.get("_target_", "")).rpartition(".")[2] in _SIDE_BY_SIDE


def threads_each(at_once: int, cores: int, wanted: int | None = None) -> int:
    """Threads for each of the jobs that run at the same time.

    Args:
        at_once: how many jobs that is.
        cores: of the machine, to be shared.
        wanted: the user's own number (``threads``), which is taken as it is.
    """
    return wanted if wanted is not None else max(1, cores // at_once)


def device_of_job(position: int, device: str, visible: int) -> str:
    """The device of one of several jobs that run at the same time.

    Args:
        position: of the job among those launched together.
        device: what the user asked for; anything but ``auto`` is taken as it is.
        visible: number of GPUs that torch sees.

    Returns:
        ``cuda:N``, the GPUs taken in turn, where there are some and the choice is left to us.
    """
    return f"cuda:{position % visible}" if device == "auto" and visible else device


@contextmanager
def limited_threads(limit: int) -> Iterator[None]:
    """Have processes started meanwhile use at most so many threads each.

    A smaller limit that the user has set in the environment stays.
    """
    own = {name: os.environ.get(name, "") for name in _LIMITS}
    fewest = {
        name: str(min(int(value), limit) if value.isdigit() else limit)
        for name, value in own.items()
    }
    with environment_variables(fewest):
        yield
