"""Iterates of long solves in a run directory: written on the way, read by ``resume``."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.errors import IgnoredOptionWarning, RunError
from idl_cli.run import RunDirectory
from idl_cli.run.state import read_tensors


class StageCheckpoints:
    """The iterates of a run's stages [A B] and [C D], in its directory.

    Args:
        directory: of this run; of ranks but the first, one that writes nothing.
        source: directory of the run to continue; None to start anew.
        group: the ranks, of which the first reads and writes for all.
    """

    def __init__(self, directory: RunDirectory, source: Path | None, group: Group) -> None:
        self._directory = directory
        self._source = source
        self._group = group

    def write(self, stage: str, state: Mapping[str, Tensor]) -> None:
        """Keep a stage's iterate in place of the one before, atomically."""
        self._directory.write_tensors(_name(stage), state)

    def read(self, stage: str) -> dict[str, Tensor] | None:
        """The iterate of a stage, the same on all ranks; None where there is none to continue."""
        if self._source is None:
            return None
        state = self._read(self._source / _name(stage)) if self._group.is_main else {}
        return self._group.broadcast_object(state)

    def remove(self) -> None:
        """Leave no iterate behind a run that has come to its end."""
        if self._group.is_main:
            for stage in ("ab", "cd"):
                (self._directory.path / _name(stage)).unlink(missing_ok=True)

    def _read(self, path: Path) -> dict[str, Tensor] | None:
        if not path.is_file():
            return None
        try:
            tensors, _ = read_tensors(path)
        except RunError as error:
            warnings.warn(
                f"resume: {error}; the solve starts anew", IgnoredOptionWarning, stacklevel=3
            )
            return None
        return tensors


def _name(stage: str) -> str:
    return f"iterate_{stage}.safetensors"
