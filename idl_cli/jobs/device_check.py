"""Devices that this machine has not, refused before a run directory is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from idl_cli.config.check import instantiate
from idl_cli.requests.preflight import Accepted
from idl_cli.requests.specification import Command


def refuse_missing_devices(command: Command, accepted: Accepted) -> None:
    """Look at the devices of a run on this machine, where the user names or counts some.

    Else nothing is looked at: torch would be imported, for nothing, before the job sets the
    environment that it reads (``hydra.job.env_set``).

    Args:
        command: the command.
        accepted: its request, of one run.

    Raises:
        ConfigError: they cannot be had here.
    """
    if accepted.hydra.job.env_set or not _asks_for_devices(accepted.settings):
        return
    from idl_cli.assembly.compute import resolve_device
    from idl_cli.jobs.ranks import planned_devices

    settings = instantiate(command.schema, accepted.settings)
    for device in planned_devices(settings, assigned=settings.device):
        resolve_device(device)


def _asks_for_devices(settings: Mapping[str, Any]) -> bool:
    sections = (settings.get(key) or {} for key in ("trainer", "solver"))
    counts = (each.get(key) for each in sections for key in ("devices", "processes"))
    return settings["device"].startswith("cuda") or any(count is not None for count in counts)
