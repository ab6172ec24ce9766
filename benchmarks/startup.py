"""How long ``idl`` takes to answer: help, completion, a composed configuration, a refusal.

Each command is a process of its own; the median over repeats is reported, beside that of
``python -c pass``. The repeats of the commands are interleaved, so that a busy moment of the
machine falls on all of them.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPEATS = 15
LIMITS = {"idl --help": 0.1, "idl train --cfg job": 1.5}
"""Seconds allowed: of help above bare Python, of the composed configuration in all."""

_COMMANDS: dict[str, list[str]] = {
    "python -c pass": ["-c", "pass"],
    "idl --help": ["-m", "idl_cli", "--help"],
    "idl --version": ["-m", "idl_cli", "--version"],
    "idl list": ["-m", "idl_cli", "list"],
    "completion": ["-m", "idl_cli", "-sc", "query=bash"],
    "idl train --cfg job": ["-m", "idl_cli", "train", "--cfg", "job"],
    "idl train --help": ["-m", "idl_cli", "train", "--help"],
    "idl train model.kappa=2": ["-m", "idl_cli", "train", "model.kappa=2"],
}


def run(root: Path | None = None) -> dict[str, object]:
    """Measure and print; ``root`` is of no use here.

    Returns:
        Median seconds of each command, and help's seconds above bare Python.
    """
    del root
    times: dict[str, list[float]] = {name: [] for name in _COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(REPEATS):
            for name, arguments in _COMMANDS.items():
                times[name].append(_seconds(arguments, folder))
    medians = {name: statistics.median(each) for name, each in times.items()}
    above = medians["idl --help"] - medians["python -c pass"]
    for name, median in medians.items():
        print(f"{name:26} {1000 * median:7.1f} ms (best {1000 * min(times[name]):.1f})")
    print(f"{'help above bare Python':26} {1000 * above:7.1f} ms")
    return {
        "repeats": REPEATS,
        "median_seconds": medians,
        "help_above_python_seconds": above,
        "within_limits": (
            above <= LIMITS["idl --help"]
            and medians["idl train --cfg job"] <= LIMITS["idl train --cfg job"]
        ),
    }


def _seconds(arguments: list[str], folder: str) -> float:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "COMP_LINE": "idl train model.act"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,  # one of the commands is a refusal
    )
    return time.perf_counter() - started
