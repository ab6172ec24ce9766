"""Iterates kept in a run directory: continued, left where they are damaged, removed at the end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from idl_cli.commands.sim.checkpoints import StageCheckpoints
from idl_cli.distributed.group import Group
from idl_cli.errors import IgnoredOptionWarning
from idl_cli.run import RunDirectory
from idl_cli.run.shared import ObservedRunDirectory


def _state() -> dict[str, torch.Tensor]:
    return {
        "weights": torch.arange(6.0, dtype=torch.float64).reshape(2, 3),
        "untried": torch.tensor([True, False]),
        "numbers": torch.tensor([10.0, 20.0, 0.1], dtype=torch.float64),
    }


def test_an_iterate_is_read_back_and_removed_at_the_end(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "run", command="sim", seed=0) as directory:
        checkpoints = StageCheckpoints(directory, directory.path, Group.single())
        assert checkpoints.read("ab") is None
        checkpoints.write("ab", _state())
        found = checkpoints.read("ab")
        assert found is not None
        assert found.keys() == _state().keys()
        assert all(torch.equal(found[name], value) for name, value in _state().items())
        assert checkpoints.read("cd") is None
        assert StageCheckpoints(directory, None, Group.single()).read("ab") is None
        checkpoints.remove()
        assert not list(directory.path.glob("iterate*"))


def test_a_damaged_iterate_is_left_with_a_warning(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "run", command="sim", seed=0) as directory:
        checkpoints = StageCheckpoints(directory, directory.path, Group.single())
        checkpoints.write("ab", _state())
        path = directory.path / "iterate_ab.safetensors"
        path.write_bytes(path.read_bytes()[:-5])
        with pytest.warns(IgnoredOptionWarning, match=r"iterate_ab.safetensors.*starts anew"):
            assert checkpoints.read("ab") is None


def test_only_the_first_rank_writes(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "run", command="sim", seed=0) as directory:
        observed = ObservedRunDirectory(directory.path, command="sim", seed=0)
        StageCheckpoints(observed, directory.path, Group.single()).write("ab", _state())
        assert not list(directory.path.glob("iterate*"))
