"""``logger.json``: which record of a service is a run's, so that a resumed run goes on in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from idl_cli.loggers.base import RunFacts
from idl_cli.masking import masked
from idl_cli.run import RunDirectory
from idl_cli.run.files import read_json

_FILE = "logger.json"


def forget_unless_resumed(
    directory: RunDirectory, service: str, facts: RunFacts
) -> Mapping[str, Any]:
    """What was kept for a service; nothing where the run starts anew."""
    return {} if facts.resumed_step is None else _kept(directory).get(service, {})


def remember(directory: RunDirectory, service: str, values: Mapping[str, object]) -> None:
    """Keep what finds a service's record again."""
    directory.write_json(_FILE, {**_kept(directory), service: masked(values)})


def _kept(directory: RunDirectory) -> dict[str, Any]:
    file = directory.path / _FILE
    return read_json(file) if file.exists() else {}
