"""Which directory a run gets: one that no other run has, found before Hydra writes into it."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from itertools import count
from pathlib import Path
from typing import Final

from omegaconf import OmegaConf

from idl_cli.errors import ConfigError, RunError
from idl_cli.requests.request import Accepted

PLAN = "jobs.json"
"""In a sweep's directory: what every job is to run."""

OF_RUNS: Final = (
    ".hydra",
    "checkpoints",
    "data.json",
    "environment.json",
    "forecast.png",
    "gap.png",
    "iterations.png",
    "learning_curves.png",
    "logger.json",
    "metrics.jsonl",
    "model.json",
    "model.safetensors",
    "path.csv",
    "path.json",
    "path.png",
    "profile.json",
    "profile.txt",
    "report.html",
    "rows.json",
    "run.log",
    "shift.csv",
    "shift.json",
    "shift.png",
    "sparsity.png",
    "statistics.safetensors",
    "summary.json",
    "teacher",
)
"""What runs write, so that nobody else's file of the name is lost."""

_OF_SWEEPS: Final = (
    "extrapolation.csv",
    "extrapolation.json",
    "extrapolation.png",
    "multirun.yaml",
    "study.db",
    "sweep.csv",
    "sweep.html",
    "sweep.json",
)


def claim(accepted: Accepted, *, sweep: bool) -> tuple[Path, Sequence[str]]:
    """Make sure that the run's (or sweep's) directory is free.

    A time-stamped directory is made here, with a number behind it where another run of the same
    second was faster. A directory the user chose may hold a run only if that is to be continued.

    Returns:
        The directory, and the overrides that tell Hydra of it.

    Raises:
        ConfigError: the user's directory has no name.
        RunError: the user's directory holds another run, or files that this one would overwrite.
    """
    kind = "sweep" if sweep else "run"
    pattern = OmegaConf.to_container(accepted.hydra[kind], resolve=False)
    directory = Path(accepted.hydra[kind].dir)
    assert isinstance(pattern, dict)
    if not str(pattern["dir"]).strip():  # an empty variable of a script's
        raise ConfigError([f"hydra.{kind}.dir=: names no directory; give one, or leave it out"])
    if "${now:" in str(pattern["dir"]):
        directory = _make_unique(directory)
        quoted = str(directory).replace("'", r"\'")
        return directory, [f"hydra.{kind}.dir='{quoted}'"]
    if sweep and holds_sweep(directory):
        raise RunError(
            f"{directory}: holds a sweep; continue it with sweep.resume={directory}, or choose "
            "another directory (hydra.sweep.dir=DIR)"
        )
    if directory.exists():
        names = _OF_SWEEPS if sweep else OF_RUNS
        _refuse_files_of_others(directory, names, f"hydra.{kind}.dir", accepted.request.commands)
    if not sweep and directory.exists():
        _refuse_taken(directory, resuming=accepted.settings.get("resume") == "auto")
    return directory, []


def holds_sweep(directory: Path) -> bool:
    """Whether a sweep has left jobs, or the plan of some, in a directory."""
    if not directory.is_dir():
        return False
    return any(each.name == PLAN or each.name.isdigit() for each in directory.iterdir())


def _make_unique(directory: Path) -> Path:
    """Make a directory that did not exist: this one, or with the first free number behind it."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        candidate = directory if number == 1 else Path(f"{directory}_{number}")
        try:
            candidate.mkdir()
        except FileExistsError:
            continue
        return candidate
    raise AssertionError("count() ends only by returning")


def _refuse_files_of_others(
    directory: Path, names: Sequence[str], key: str, commands: Collection[str]
) -> None:
    from idl_cli.run import CHECKPOINTS, read_record

    if read_record(directory).command in commands:
        return  # a run of ours
    if (directory / CHECKPOINTS / "last.safetensors").is_file():
        return  # one whose records are damaged; what is no checkpoint is refused when it is read
    found = [name for name in names if os.path.lexists(directory / name)]
    if found:
        raise RunError(
            f"{directory}: {', '.join(found)} would be overwritten, and nothing says that a run "
            f"left that; move it away, or choose another directory ({key}=DIR)"
        )


def _refuse_taken(directory: Path, *, resuming: bool) -> None:
    from idl_cli.run import run_status

    try:
        status = run_status(directory)
    except RunError as error:
        if resuming:  # it goes on from its checkpoint, and says so
            return
        raise RunError(
            f"{error}; resume=auto goes on from the run's checkpoint, or choose another directory "
            "(hydra.run.dir=DIR)"
        ) from error
    if status == "running":
        raise RunError(f"{directory}: a run that is still going writes there; choose another one")
    if status != "killed" and not resuming:
        raise RunError(
            f"{directory}: holds a run that ended ({status}); continue it with resume=auto, or "
            "choose another directory (hydra.run.dir=DIR)"
        )
