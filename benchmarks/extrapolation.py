"""Extrapolation: the implicit network beside explicit ones of equal size, every preset.

Runs ``experiment=extrapolation_argmax``, ``_spiky``, ``_rolling_mean``, ``_identity`` and
``_arithmetic`` as users would, three seeds a model, one thread each, two at a time: argmax and
spiky at the published sizes and epochs, the others, of which no set-up was published, for 200
epochs. About 35 minutes on two quiet cores. ``python -m benchmarks.extrapolation --share 0.05``
makes a twentieth of the epochs; the figures say how many were made.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from typing import Any

FARTHEST = 1e5  # the shift f at which convergence is asked for
MOST_UNCONVERGED = 1e-3  # share of samples that may miss their tolerance there


@dataclass(frozen=True)
class Setup:
    """A preset, its epochs, and the metric of its test part."""

    experiment: str
    epochs: int
    metric: str


SETUPS = (
    Setup("extrapolation_argmax", 1000, "test_accuracy"),
    Setup("extrapolation_spiky", 100, "test_r2"),
    Setup("extrapolation_rolling_mean", 200, "test_r2"),
    Setup("extrapolation_identity", 200, "test_r2"),
    Setup("extrapolation_arithmetic", 200, "test_r2"),
)
AT_A_TIME = 2


def run(root: Path | None, *, share: float = 1.0) -> dict[str, object]:
    """Measure all set-ups.

    Args:
        root: taken for uniformity; the data are generated.
        share: of the epochs to make.

    Returns:
        For each experiment: ``epochs``, ``models`` (parameters, seconds, metric over seeds),
        ``shifts`` (the rows of ``extrapolation.json``), ``unconverged_share_at_1e5``.
    """
    del root
    with TemporaryDirectory() as folder:

        def measure(setup: Setup) -> dict[str, object]:
            epochs = max(1, round(share * setup.epochs))
            directory = Path(folder) / setup.experiment
            return _figures(setup, epochs, directory, _run(setup, epochs, directory))

        with ThreadPoolExecutor(AT_A_TIME) as pool:
            figures = list(pool.map(measure, SETUPS))
        return {setup.experiment: each for setup, each in zip(SETUPS, figures, strict=True)}


def _run(setup: Setup, epochs: int, directory: Path) -> int:
    directory.mkdir()
    command = [
        sys.executable,
        "-m",
        "idl_cli",
        "train",
        f"experiment={setup.experiment}",
        f"trainer.epochs={epochs}",
        "threads=1",
        f"hydra.sweep.dir={directory / 'sweep'}",
    ]
    with (directory / "output.log").open("wb") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, check=False
        )
    return done.returncode


def _figures(setup: Setup, epochs: int, directory: Path, status: int) -> dict[str, object]:
    if status != 0:
        log = (directory / "output.log").read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"{setup.experiment} ended with {status}:\n{log[-2000:]}")
    sweep = directory / "sweep"
    with (sweep / "sweep.csv").open(newline="", encoding="utf-8") as file:
        jobs = list(csv.DictReader(file))
    shifts = json.loads((sweep / "extrapolation.json").read_text(encoding="utf-8"))["rows"]
    models = {
        model: _model(
            setup,
            [job for job in jobs if job["model"] == model],
            next(row for row in shifts if row["variant"] == model)["parameters"],
        )
        for model in dict.fromkeys(job["model"] for job in jobs)
    }
    unconverged = max(
        (row.get("unconverged_share_max", 0.0) for row in shifts if row["shift"] == FARTHEST),
        default=None,
    )
    _show(setup, epochs, models, shifts)
    met = unconverged is not None and unconverged <= MOST_UNCONVERGED
    print(f"  unconverged at f = {FARTHEST:g}: {unconverged} ({'met' if met else 'not met'})")
    return {
        "epochs": epochs,
        "epochs_of_preset": setup.epochs,
        "models": models,
        "shifts": shifts,
        "unconverged_share_at_1e5": unconverged,
        "unconverged_target_met": met,
    }


def _model(setup: Setup, jobs: list[dict[str, str]], parameters: int) -> dict[str, Any]:
    values = [float(job[setup.metric]) for job in jobs]
    return {
        "parameters": parameters,
        "seeds": len(jobs),
        f"{setup.metric}_mean": fmean(values),
        f"{setup.metric}_std": stdev(values) if len(values) > 1 else None,
        "seconds": [float(job["seconds"]) for job in jobs],
    }


def _show(
    setup: Setup, epochs: int, models: dict[str, dict[str, Any]], shifts: list[dict[str, Any]]
) -> None:
    print(f"{setup.experiment}, {epochs} of {setup.epochs} epochs; error, mean ± deviation at f =")
    for model, figures in models.items():
        cells = "  ".join(
            f"{row['shift']:g}: {row['error_mean']:.3g} ± {row['error_std'] or 0:.1g}"
            for row in shifts
            if row["variant"] == model and row["error_mean"] is not None
        )
        print(f"  {model:19s} {figures['parameters']:5d} parameters  {cells}")


def main() -> None:
    """Run with a share of the published epochs and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.extrapolation")
    parser.add_argument("--share", type=float, default=1.0, help="of the epochs (1)")
    print(json.dumps(run(None, share=parser.parse_args().share), indent=2))


if __name__ == "__main__":
    main()
