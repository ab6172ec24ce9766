"""Runs ended by signals at random moments and continued: the weights of those nobody disturbed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_SMALL = (
    *("dataset.train_samples=200", "dataset.test_samples=40", "threads=1", "device=cpu"),
    "report=false",
)
_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_MARK = "IDL_STRESS"
_LIMIT = 300.0  # s for one command
_GONE = 20.0  # s in which what a command started has ended after it


@dataclass(frozen=True)
class Command:
    """A command that can be continued.

    Attributes:
        words: what begins it.
        again: what continues it, and begins it where nothing is.
        models: the weights that it leaves behind.
    """

    words: tuple[str, ...]
    again: tuple[str, ...]
    models: tuple[str, ...] = ("run/model.safetensors",)

    def next_words(self, home: Path) -> tuple[str, ...]:
        """What continues it from what lies in its directory."""
        sweep = self.words[1] == "-m"
        return self.words if sweep and not (home / "run" / "jobs.json").exists() else self.again


_TRAIN = ("train", *_SMALL, "model.hidden_dim=8", "trainer.epochs=30", "trainer.checkpoint_every=7")
_SIM = ("sim", *_SMALL, "teacher.hidden_dims=[16]")
_SWEEP = ("train", "-m", *_SMALL, "model.hidden_dim=8", "trainer.epochs=8", "seed=0,1")
COMMANDS = (
    Command((*_TRAIN, "hydra.run.dir=run"), (*_TRAIN, "hydra.run.dir=run", "resume=auto")),
    Command((*_SIM, "hydra.run.dir=run"), (*_SIM, "hydra.run.dir=run", "resume=auto")),
    Command(
        (*_SWEEP, "hydra.sweep.dir=run"),
        ("train", "sweep.resume=run"),
        ("run/0/model.safetensors", "run/1/model.safetensors"),
    ),
)


def run(
    *, seed: int, count: int | None, seconds: float, processes: int, first: int = 0
) -> dict[str, Any]:
    """Disturb commands until the number of trials or the time is reached."""
    end = time.monotonic() + seconds
    totals: Counter[str] = Counter()
    bad: list[str] = []
    whole: dict[Command, tuple[float, list[bytes]]] = {}
    index = first
    with tempfile.TemporaryDirectory(prefix="idl-stress-") as name:
        while index < first + count if count is not None else time.monotonic() < end:
            command = COMMANDS[index % len(COMMANDS)]
            if command not in whole:
                home = Path(name, f"whole_{index}")
                begun = time.monotonic()
                status, said = _end_of(_start(command.words, home, ""), home)
                assert status == 0, said
                whole[command] = time.monotonic() - begun, _weights(command, home)
            home = Path(name, f"trial_{index}")
            faults = _trial(
                command, *whole[command], home, np.random.default_rng([seed, index]), totals
            )
            bad += [f"trial {index}, {' '.join(command.words[:2])}: {fault}" for fault in faults]
            index += 1
    return {
        "trials": index - first,
        **{each: totals[each] for each in ("signals", "ended before", "bit-identical", "refused")},
        **{f"left {what}": totals[f"left {what}"] for what in ("processes", "temporary files")},
        "faults": len(bad),
        "bad": bad,
    }


def _trial(
    command: Command,
    length: float,
    weights: list[bytes],
    home: Path,
    rng: np.random.Generator,
    totals: Counter[str],
) -> list[str]:
    """Signal a command once or twice, continue it to its end, compare; return what went wrong."""
    faults = []
    for _ in range(int(rng.integers(1, 3))):
        mark = uuid.uuid4().hex
        process = _start(command.next_words(home), home, mark)
        number = _SIGNALS[int(rng.integers(len(_SIGNALS)))]
        try:
            process.wait(timeout=float(rng.uniform(0.2, 1.0)) * length)
            totals["ended before"] += 1
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            totals["signals"] += 1
        status, said = _end_of(process, home)
        if (
            "Traceback (most recent call last)" in said
            and number != signal.SIGKILL
            and status != 130
        ):
            faults.append(f"a traceback after {number.name}: {said[-300:]}")
        left = _living(mark)
        totals["left processes"] += len(left)
        faults += [f"process {each} outlived {number.name}" for each in left]
    status, said = _end_of(_start(command.next_words(home), home, ""), home)
    if status:
        totals["refused"] += 1
        return [*faults, f"could not be continued (status {status}): {said[-400:]}"]
    temporary = [str(path) for path in home.rglob(".*.idl-tmp")]
    totals["left temporary files"] += len(temporary)
    faults += [f"left {each}" for each in temporary]
    if _weights(command, home) == weights:
        totals["bit-identical"] += 1
    else:
        faults.append("other weights than without the signal")
    return faults


def _weights(command: Command, home: Path) -> list[bytes]:
    return [(home / each).read_bytes() for each in command.models]


def _start(words: tuple[str, ...], home: Path, mark: str) -> subprocess.Popen[bytes]:
    home.mkdir(parents=True, exist_ok=True)
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, _MARK: mark, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    with _log(home).open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "idl_cli", *words],
            cwd=home,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )


def _log(home: Path) -> Path:
    return home.with_suffix(".err")


def _end_of(process: subprocess.Popen[bytes], home: Path) -> tuple[int, str]:
    """Exit status and what was said on standard error."""
    try:
        status = process.wait(timeout=_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        status = process.wait()
    return status, _log(home).read_text(encoding="utf-8", errors="replace")


def _living(mark: str) -> list[int]:
    """Processes of a trial that are still there when all have had the time to end."""
    deadline = time.monotonic() + _GONE
    while (found := _marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def _marked(mark: str) -> list[int]:
    wanted = f"{_MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue  # ended meanwhile, or another user's
    return found
