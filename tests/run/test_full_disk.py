"""Whatever the disk refuses, and whenever: every file is the old one or the new one, and named."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from idl_cli.errors import DataError, system_refusal
from idl_cli.models.explicit import MLP
from idl_cli.run import RunDirectory
from idl_cli.run.files import write_atomic
from idl_cli.sim.statistics.dense import SufficientStatistics
from idl_cli.sweeps.sweep_plan import SweepPlan

Write = Callable[[Path, int], None]


def _in_run(write: Callable[[RunDirectory, int], None]) -> Write:
    def written(path: Path, version: int) -> None:
        with RunDirectory(path, command="train", resume=True) as directory:
            write(directory, version)

    return written


def _statistics(path: Path, version: int) -> None:
    statistics = SufficientStatistics(20, 1, {"Z": 2})
    statistics.gram.fill_(version)
    statistics.save(path / "statistics.safetensors")


def _plan(path: Path, version: int) -> None:
    SweepPlan(path, "train", ("seed=0",) * 900, jobs={0: (f"seed={version}",)}).save()


def _model(directory: RunDirectory, version: int) -> None:
    model = MLP((20,), 2, hidden_dims=(20,))
    for parameter in model.parameters():
        nn.init.constant_(parameter, version)
    directory.save_model(model, preprocessing=None, task=None)


WRITERS: Final[dict[str, Write]] = {
    "bytes": lambda path, version: write_atomic(path / "a.bin", bytes([version]) * 5000),
    "text": _in_run(lambda d, version: d.write_text("report.html", str(version) * 5000)),
    "summary": _in_run(lambda d, version: d.write_json("data.json", [version] * 5000)),
    "table": _in_run(lambda d, version: d.write_table("a.csv", [{"a": version}] * 5000)),
    "metrics": _in_run(lambda d, version: d.replace_metrics([{"step": version}] * 900)),
    "row": _in_run(lambda d, version: d.append_metrics({"step": "x" * 5000})),
    "tensors": _in_run(
        lambda d, version: d.write_tensors("i.safetensors", {"a": torch.full((5000,), version)})
    ),
    "checkpoint": _in_run(
        lambda d, version: d.save_checkpoint("last", [torch.full((5000,), version)], {})
    ),
    "model": _in_run(_model),
    "statistics": _statistics,
    "plan": _plan,
}
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)


@contextmanager
def _refusing(call: str, number: int, code: int) -> Iterator[None]:
    """Have the system refuse the call of that number, or every byte beyond a few of a file."""
    if call == "write":
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 + 1024 * number, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        return
    original, calls = getattr(os, call), iter(range(100))

    def refuse(*arguments: object) -> None:
        if next(calls) == number:
            raise OSError(code, os.strerror(code))
        original(*arguments)

    with patch.object(os, call, refuse):
        yield


def _content(file: Path) -> bytes:
    if file.name != "statistics.safetensors":
        return file.read_bytes()
    return SufficientStatistics.load(file).gram.numpy().tobytes()  # its header is in any order


def _files(path: Path) -> dict[str, bytes]:
    return {
        str(each.relative_to(path)): _content(each) for each in path.rglob("*") if each.is_file()
    }


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    writer=st.sampled_from(sorted(WRITERS)),
    call=st.sampled_from(["write", "fsync", "replace"]),
    number=st.integers(0, 3),
    code=st.sampled_from(REFUSALS),
)
def test_what_a_disk_refuses_costs_no_file(
    tmp_path_factory: pytest.TempPathFactory, writer: str, call: str, number: int, code: int
) -> None:
    path, apart = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("apart")
    write = WRITERS[writer]
    for place in (path, apart):
        write(place, 1)
    old = _files(path)
    write(apart, 2)
    new = _files(apart)
    try:
        with _refusing(call, number, code):
            write(path, 2)
    except OSError as error:
        said = system_refusal(error) or ""
    except DataError as error:
        said = str(error)
    else:
        assert _files(path) == new  # the calls were fewer
        return
    found = _files(path)
    assert found.keys() == old.keys()
    assert all(content in (old[name], new[name]) for name, content in found.items())
    assert any(f"{path / name}: " in said for name in found), said
    write(path, 2)
    if writer != "row":
        assert _files(path) == new
