"""What the user asked of one command, and what is accepted of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from idl_cli.config.options import config_directory, defaults_in
from idl_cli.requests.specification import Command, Commands


@dataclass(frozen=True)
class Request:
    """What the user asked of one command.

    Attributes:
        command: the command.
        commands: all that there are, for mistakes that belong to another one.
        overrides: the arguments that are no flags.
        multirun: whether lists of values make one job each.
        root: name of the primary configuration.
        directory: where it lies, None for the project's own.
        search_path: further directories with options.
        to_run: whether its jobs are to be run: then the files that they read must be there.
    """

    command: Command
    commands: Commands
    overrides: tuple[str, ...]
    multirun: bool = False
    root: str = ""
    directory: Path | None = None
    search_path: tuple[Path, ...] = ()
    to_run: bool = False

    @property
    def directories(self) -> tuple[Path, ...]:
        """Where option files may lie, the first to win."""
        return (self.directory or config_directory(), *self.search_path)

    def chooses_nothing(self, group: str) -> bool:
        """Whether the primary configuration itself says ``GROUP: null``, or has no file."""
        roots = (directory / f"{self.root}.yaml" for directory in self.directories)
        file = next((each for each in roots if each.is_file()), None)
        return file is None or defaults_in(file).get(group) == "null"


@dataclass(frozen=True)
class Accepted:
    """A request without mistakes.

    Attributes:
        overrides: what to hand to Hydra: the user's own, written so that Hydra takes them.
        hydra: Hydra's part of the (first job's) configuration.
        settings: the checked settings of the (first) job.
        request: that was accepted.
    """

    overrides: tuple[str, ...]
    hydra: DictConfig
    settings: dict[str, Any]
    request: Request
