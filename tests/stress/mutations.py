"""Damage to the weights and checkpoints of a finished run: refused, or without consequence."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from idl_cli.errors import IdlError
from idl_cli.run import load_run
from idl_cli.run.state import read_state
from tests.stress import mutate
from tests.stress.pool import results
from tests.stress.readers import scratch, silence

FILES = ("model.safetensors", "checkpoints/last.safetensors", "checkpoints/best.safetensors")
TRAINING = (
    *("train", "model.hidden_dim=6", "dataset.train_samples=120", "dataset.test_samples=40"),
    *("trainer.epochs=2", "threads=1", "report=false", "device=cpu"),
)
REFUSED, SAME, CHANGED, FOREIGN = (
    "refused",
    "accepted, same",
    "accepted, changed",
    "foreign exception",
)


def train(directory: Path) -> Path:
    """The run whose files are damaged."""
    words = [sys.executable, "-m", "idl_cli", *TRAINING, f"hydra.run.dir={directory}"]
    subprocess.run(words, check=True, capture_output=True)
    return directory


def figures(run: Path) -> str:
    """A digest of all that evaluating or resuming a run depends on, beside its configuration."""
    digest = hashlib.sha256()
    loaded = load_run(run)
    inputs = torch.linspace(0, 16, 64, dtype=torch.float64)[None].repeat(3, 1).reshape(3, 1, 8, 8)
    assert loaded.preprocessing is not None
    shape = (3, *loaded.preprocessing.input_shape)
    outputs = loaded.model(loaded.preprocessing(inputs.reshape(shape), dtype=loaded.dtype))
    _add(digest, [outputs, loaded.task, loaded.name, sorted(loaded.arguments.items())])
    for which in FILES[1:]:
        _add(digest, read_state(run / which))
    return digest.hexdigest()


def _add(digest: Any, value: object) -> None:
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    if isinstance(value, np.ndarray):
        digest.update(f"{value.dtype} {value.shape}".encode() + value.tobytes())
    elif isinstance(value, Mapping):
        _add(digest, [*value.items()])
    elif isinstance(value, list | tuple):
        digest.update(b"(")
        for each in value:
            _add(digest, each)
        digest.update(b")")
    else:
        digest.update(f"{value!r};".encode())


def make_call(seed: int, run: Path) -> Callable[[int], tuple[str, str]]:
    """A function from a trial's number to (outcome, detail)."""
    torch.set_num_threads(1)
    intact = figures(run)
    contents = {name: (run / name).read_bytes() for name in FILES}

    def call(index: int) -> tuple[str, str]:
        rng = np.random.default_rng([seed, index])
        name = FILES[index % len(FILES)]
        damaged, what = _damage(contents[name], rng)
        directory = Path(tempfile.mkdtemp(dir=scratch(), prefix="idl-stress-"))
        try:
            (directory / "checkpoints").mkdir()
            for each, content in contents.items():
                (directory / each).write_bytes(damaged if each == name else content)
            with silence():
                found = figures(directory)
        except IdlError:
            return REFUSED, ""
        except Exception as error:
            return FOREIGN, f"{name}, {what}: {error!r}"
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        return (SAME, "") if found == intact else (CHANGED, f"{name}, {what}")

    return call


def _damage(content: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """Mostly one bit, half of them in the header; else anything a fuzzer does."""
    header = 8 + struct.unpack("<Q", content[:8])[0]
    if rng.random() < 0.25:
        return mutate.safetensors(content, rng), "rewritten"
    inside = rng.random() < 0.7
    bit = int(rng.integers(8 * header) if inside else rng.integers(8 * header, 8 * len(content)))
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged), f"bit {bit} of the {'header' if inside else 'tensors'}"


def run(
    *, seed: int, count: int | None, seconds: float, processes: int, first: int = 0
) -> dict[str, Any]:
    """Damage files until the number of trials or the time is reached."""
    end = time.monotonic() + seconds
    numbers = range(first, first + count) if count is not None else itertools.count(first)
    trials = itertools.takewhile(lambda _: count is not None or time.monotonic() < end, numbers)
    totals: Counter[str] = Counter()
    bad = []
    with tempfile.TemporaryDirectory(prefix="idl-stress-") as home:
        intact = train(Path(home, "run"))
        for index, result in results(
            make_call, (seed, intact), trials, processes=processes, seconds=60.0
        ):
            outcome, detail = result if isinstance(result, tuple) else (result, "")
            totals[outcome] += 1
            if outcome not in (REFUSED, SAME):
                bad.append({"trial": index, "outcome": outcome, "detail": detail})
    return {
        "trials": totals.total(),
        **{name: totals[name] for name in (REFUSED, SAME, CHANGED, FOREIGN, "time-out", "died")},
        "faults": len(bad),
        "bad": bad[:100],
    }
