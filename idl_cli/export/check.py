"""An exported model held against its run: all test samples, classes, outputs, time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Final

import numpy as np
import torch

from idl_cli.errors import RunError
from idl_cli.export.deployment import Deployment, Written
from idl_cli.export.error_bound import Floats

_ROWS: Final = 1024
_SECONDS: Final = 0.3
BATCHES: Final = (1, 64)


@dataclass(frozen=True)
class Checked:
    """What a comparison over the test samples has found.

    Args:
        samples: how many.
        difference: largest distance of an output from that of the equilibrium in float64.
        bound: proven bound on it in the outputs' unit; None where there is none.
        own_difference: the same of the run's own model, which stops at its tolerance.
        other_classes: samples whose class is not the run's; None of a regression.
        doubtful: largest margin of such a sample between its two classes; 0 where there is none.
        milliseconds: median time of a batch, by who computes it and the samples in it.
    """

    samples: int
    difference: float
    bound: float | None
    own_difference: float
    other_classes: int | None
    doubtful: float
    milliseconds: dict[str, dict[int, float]]


def check(deployment: Deployment, written: Written, *, timed: bool) -> Checked:
    """Compare what was written with the run's model over its test samples.

    Args:
        deployment: the model and its data.
        written: what is compared.
        timed: whether it is timed, too.

    Raises:
        RunError: an output is farther from the equilibrium's than is proven, or a class differs
            that is not within that distance.
    """
    raw = deployment.dataset.test.inputs
    stored = raw.numpy().astype(deployment.raw_dtype, copy=False)
    blocks = [written.runtime(stored[at : at + _ROWS]) for at in range(0, len(stored), _ROWS)]
    outputs = np.concatenate(blocks)
    exact, own = deployment.exact_outputs(raw), deployment.own_outputs(raw)
    difference = float(np.abs(outputs - exact).max())
    bound = None
    if written.bound is not None and np.isfinite(written.bound.total):
        bound = written.bound.total * deployment.output_unit
    if not np.isfinite(outputs).all() or (bound is not None and difference > bound):
        raise RunError(
            f"the exported model's outputs are {difference:.3g} from those of the equilibrium,"
            f" beyond the proven {bound or 0:.3g}; nothing was kept. Please report this"
        )
    others, margin = None, 0.0
    if deployment.task.kind == "classification":
        found, expected = outputs.argmax(axis=1), own.argmax(axis=1)
        differing = np.flatnonzero(found != expected)
        others = len(differing)
        margin = max(
            (abs(float(exact[row, found[row]] - exact[row, expected[row]])) for row in differing),
            default=0.0,
        )
    own_difference = float(np.abs(own - exact).max())
    if margin > 2 * (difference + own_difference):
        raise RunError(
            f"the exported model's class differs from the run's on {others} test samples, by a"
            f" margin of {margin:.3g}; nothing was kept. Please report this"
        )
    milliseconds = {}
    if timed:
        tensor = torch.from_numpy(stored)
        milliseconds = {
            "exported": _times(lambda count: written.runtime(stored[:count])),
            "PyTorch": _times(lambda count: deployment.own_outputs(tensor[:count])),
        }
    return Checked(len(raw), difference, bound, own_difference, others, margin, milliseconds)


def _times(call: Callable[[int], Floats]) -> dict[int, float]:
    found = {}
    for count in BATCHES:
        call(count)
        times, end = list[float](), time.perf_counter() + _SECONDS
        while len(times) < 5 or time.perf_counter() < end:
            start = time.perf_counter()
            call(count)
            times.append(time.perf_counter() - start)
        found[count] = 1e3 * median(times)
    return found
