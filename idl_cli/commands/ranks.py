"""A command's work on several processes of this machine.

The job in the parent holds the run directory and says how the run ended; the ranks do the work.
Every rank runs the command's own function, with ``device`` and ``threads`` replaced by its own:
``idl_cli.distributed.group.current(compute.device)`` is the group it is in. Rank 0 gets the run's
``RunDirectory`` and the console, the others an ``ObservedRunDirectory`` (which reads, and leaves
writing to rank 0) and a reporter that says nothing. Rank 0's result is the job's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from idl_cli.config.schemas.root import SimSettings, TrainSettings
from idl_cli.distributed.devices import rank_devices

if TYPE_CHECKING:
    from idl_cli.reporting import Reporter
    from idl_cli.run import RunDirectory


def planned_devices(settings: object) -> tuple[str, ...] | None:
    """The device of each rank that the settings ask for; None for a command of one process.

    ``idl sim`` reads ``solver.devices`` and ``solver.processes`` of a solver that has them,
    ``idl train`` reads ``trainer.devices``.

    Raises:
        ConfigError: they cannot be had here.
    """
    section: Mapping[str, Any]
    if isinstance(settings, SimSettings):
        key, section = "solver", settings.solver
    elif isinstance(settings, TrainSettings):
        key, section = "trainer", settings.trainer
    else:
        return None
    if "devices" not in section or (key == "trainer" and section["devices"] is None):
        return None
    import torch

    return rank_devices(
        section["devices"],
        section.get("processes"),
        policy=settings.device,
        visible=torch.cuda.device_count() if torch.cuda.is_available() else 0,
        key=key,
    )


def run_on_ranks(
    command: str,
    settings: object,
    directory: RunDirectory,
    console: Reporter,
    *,
    devices: tuple[str, ...],
) -> dict[str, object]:
    """Run a command's work on one process a device and return rank 0's result.

    Args:
        command: name of the command, such as ``sim``.
        settings: checked; the same for all ranks but for ``device`` and ``threads``.
        directory: of this run, locked by this process.
        console: told what happens.
        devices: one a rank, such as ``("cuda:0", "cuda:1")`` or ``("cpu", "cpu")``.

    Raises:
        RankError: a rank raised, was killed or never joined; the sentence names it and its cause.
        ConfigError: the ranks refused the request.
        KeyboardInterrupt: SIGINT or SIGTERM came; all ranks have ended.
    """
    raise NotImplementedError
