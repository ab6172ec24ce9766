"""Damaged inputs for every reader: each ends in one of our errors, or is accepted."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from idl_cli.errors import IdlError
from tests.stress.pool import results
from tests.stress.readers import Reader, readers, scratch, silence, write

OURS, ACCEPTED, FOREIGN = "our error", "accepted", "foreign exception"
_SECONDS = 60.0  # for one input, which takes some milliseconds of a machine that is not busy


def rounds(every: Mapping[str, Reader], only: tuple[str, ...]) -> list[str]:
    """The readers of a round of inputs, in their order."""
    return [name for name in only or every for _ in range(every[name].share)]


def make_call(seed: int, chosen: tuple[str, ...]) -> Callable[[int], tuple[str, str, str]]:
    """A function from an input's number to (reader, outcome, detail)."""
    torch.set_num_threads(1)
    every = readers()
    names = rounds(every, chosen)

    def call(index: int) -> tuple[str, str, str]:
        name = names[index % len(names)]
        reader, rng = every[name], np.random.default_rng([seed, index])
        files = dict(reader.files)
        target = sorted(files)[int(rng.integers(len(files)))]
        files[target] = reader.mutator_of(target)(files[target], rng)
        directory = Path(tempfile.mkdtemp(dir=scratch(), prefix="idl-stress-"))
        try:
            with silence():
                write(files, directory)
                reader.read(directory)
        except IdlError as error:
            named = directory.name in str(error) or str(directory) in str(error)
            return name, OURS, "" if named or name == "config" else f"names no file: {error}"
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)
            ours = [
                f"{Path(each.filename).name}:{each.lineno}"
                for each in where
                if "idl_cli" in each.filename
            ]
            return (
                name,
                FOREIGN,
                f"{type(error).__name__}: {str(error)[:160]} at {' '.join(ours[-3:])}",
            )
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        return name, ACCEPTED, ""

    return call


def run(
    *,
    seed: int,
    count: int | None,
    seconds: float,
    processes: int,
    only: tuple[str, ...] = (),
    first: int = 0,
) -> dict[str, Any]:
    """Read damaged inputs until their number or the time is reached."""
    end = time.monotonic() + seconds
    names = rounds(readers(), only)
    numbers = range(first, first + count) if count is not None else itertools.count(first)
    inputs = itertools.takewhile(lambda _: count is not None or time.monotonic() < end, numbers)
    totals: dict[str, Counter[str]] = {name: Counter() for name in names}
    bad: list[dict[str, object]] = []
    unnamed: list[str] = []
    for index, result in results(
        make_call, (seed, only), inputs, processes=processes, seconds=_SECONDS
    ):
        name = names[index % len(names)]
        outcome, detail = result[1:] if isinstance(result, tuple) else (result, "")
        totals[name][outcome] += 1
        if outcome == OURS and detail:
            unnamed.append(f"{name} {index}: {detail}")
        elif outcome not in (OURS, ACCEPTED):
            bad.append({"input": index, "reader": name, "outcome": outcome, "detail": detail})
    total = sum(totals.values(), Counter())
    return {
        "inputs": total.total(),
        **{
            name: total[name]
            for name in (OURS, ACCEPTED, FOREIGN, "time-out", "memory over bound", "died")
        },
        "faults": len(bad),
        "readers": {name: dict(each) for name, each in totals.items()},
        "bad": bad[:200],
        "errors that name no file": unnamed[:20],
    }
