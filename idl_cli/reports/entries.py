"""Run directories as lines of a comparison: their whole configuration, defaults included."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from idl_cli import registry
from idl_cli.analysis.comparison import Entry, figures_in, flatten
from idl_cli.config.check import Lookup, collect
from idl_cli.errors import RequestError
from idl_cli.requests.key_roles import role_of
from idl_cli.requests.specification import Command, Commands
from idl_cli.run import RunRecord, find_runs, read_record


def find_entries(directories: Iterable[Path], commands: Commands) -> list[Entry]:
    """The runs in some directories, each once.

    Args:
        directories: runs, sweeps, or folders of them at any depth.
        commands: that there are; the keys of their runs are known.

    Raises:
        RequestError: one is no directory, or holds no run.
    """
    paths: dict[Path, Path] = {}
    for directory in directories:
        if not directory.is_dir():
            raise RequestError(f"{directory}: there is no such directory")
        found = find_runs(directory)
        if not found:
            raise RequestError(
                f"{directory}: neither a run nor a folder of runs: nothing below it has a "
                "summary.json or a .hydra/config.yaml"
            )
        paths.update({path.resolve(): path for path in found})
    schemas = Schemas(commands)
    return [
        entry_of(read_record(path), name, schemas)
        for path, name in zip(paths.values(), _names(list(paths)), strict=True)
    ]


class Schemas:
    """The schemas that configurations are read with.

    Args:
        commands: that there are.

    Attributes:
        of_component: looks one up by group and name, once each: the search for plug-ins reads
            every installed package.
    """

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self.of_component: Lookup = cache(registry.schema_of)

    def command(self, name: str | None) -> Command | None:
        """The command of a name that a run has recorded; None where it is unknown."""
        return None if name is None else self._commands.get(name)


def entry_of(record: RunRecord, name: str, schemas: Schemas) -> Entry:
    """One run as a line; ``name`` is what it is called."""
    keys = whole_configuration(record.command, record.config, schemas)
    if "run" in keys:  # of `idl eval`: the run it measured, not what this one is called
        keys["eval.run"] = keys.pop("run")
    return Entry(
        run=_writable(name),
        path=_writable(str(record.path)),
        status=record.status,
        command=record.command,
        keys=keys,
        figures=figures_in(record.summary),
        error=None if record.error is None else _writable(record.error),
        # Which trainer it is, the command says already.
        aside=frozenset(k for k in keys if k == "trainer" or not role_of(k).tells_runs_apart),
    )


def _writable(text: str) -> str:
    """Text that can be printed: bytes of file names that are not UTF-8 are written out."""
    return text.encode("utf-8", "backslashreplace").decode()


def whole_configuration(
    command: str | None, config: Mapping[str, Any], schemas: Schemas
) -> dict[str, object]:
    """The flattened configuration with the defaults of the keys that its files left out.

    Keys and values that the present schemas do not know, of an older run, stay as they are.

    Args:
        command: the sub-command that made the run, None where that is unknown.
        config: as composed, nested.
        schemas: of commands and components.
    """
    raw = flatten(config)
    specification = schemas.command(command)
    if specification is None or not config:
        return raw
    checked, _ = collect(specification.schema, config, schemas.of_component)
    filled = flatten(checked)
    return {**filled, **{key: value for key, value in raw.items() if key not in filled}}


def _names(paths: Sequence[Path]) -> list[str]:
    """What tells the paths apart: without the folders that all have in common."""
    if len(paths) == 1:
        return [paths[0].name]
    common = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(common).as_posix() for path in paths]
