"""Extrapolation of argmax and of the spiky series: the implicit recurrent network beside an LSTM.

Runs ``experiment=extrapolation_argmax`` and ``experiment=extrapolation_spiky`` as users would, at
the published sizes and epochs, three seeds a model, one thread each, side by side on two cores:
about 40 minutes. ``python -m benchmarks.extrapolation --share 0.05`` makes a twentieth of the
epochs; the figures say how many were made.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from typing import Any

FARTHEST = 1e5  # the shift f at which convergence is asked for
MOST_UNCONVERGED = 1e-3  # share of samples that may miss their tolerance there


@dataclass(frozen=True)
class Setup:
    """A preset, the epochs its publication made, and the metric of its test part."""

    experiment: str
    epochs: int
    metric: str


SETUPS = (
    Setup("extrapolation_argmax", 1000, "test_accuracy"),
    Setup("extrapolation_spiky", 100, "test_r2"),
)


def run(root: Path | None, *, share: float = 1.0) -> dict[str, object]:
    """Measure both set-ups.

    Args:
        root: taken for uniformity; the data are generated.
        share: of the published epochs to make.

    Returns:
        For each experiment: ``epochs``, ``models`` (parameters, seconds, metric over seeds),
        ``shifts`` (the rows of ``extrapolation.json``), ``unconverged_share_at_1e5``.
    """
    del root
    with TemporaryDirectory() as folder:
        running = []
        for setup in SETUPS:
            epochs = max(1, round(share * setup.epochs))
            directory = Path(folder) / setup.experiment
            running.append((setup, epochs, directory, _start(setup, epochs, directory)))
        return {
            setup.experiment: _figures(setup, epochs, directory, process)
            for setup, epochs, directory, process in running
        }


def _start(setup: Setup, epochs: int, directory: Path) -> subprocess.Popen[bytes]:
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
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


def _figures(
    setup: Setup, epochs: int, directory: Path, process: subprocess.Popen[bytes]
) -> dict[str, object]:
    status = process.wait()
    if status != 0:
        log = (directory / "output.log").read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"{setup.experiment} ended with {status}:\n{log[-2000:]}")
    sweep = directory / "sweep"
    with (sweep / "sweep.csv").open(newline="", encoding="utf-8") as file:
        jobs = list(csv.DictReader(file))
    shifts = json.loads((sweep / "extrapolation.json").read_text(encoding="utf-8"))["rows"]
    models = {
        model: _model(setup, sweep, [job for job in jobs if job["model"] == model])
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
        "published_epochs": setup.epochs,
        "models": models,
        "shifts": shifts,
        "unconverged_share_at_1e5": unconverged,
        "unconverged_target_met": met,
    }


def _model(setup: Setup, sweep: Path, jobs: list[dict[str, str]]) -> dict[str, Any]:
    values = [float(job[setup.metric]) for job in jobs]
    return {
        "parameters": _parameters(sweep / jobs[0]["dir"]),
        "seeds": len(jobs),
        f"{setup.metric}_mean": fmean(values),
        f"{setup.metric}_std": stdev(values) if len(values) > 1 else None,
        "seconds": [float(job["seconds"]) for job in jobs],
    }


def _parameters(run_directory: Path) -> int:
    from idl_cli import load_model

    return sum(p.numel() for p in load_model(run_directory).parameters())


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
        print(f"  {model:11s} {figures['parameters']:5d} parameters  {cells}")


def main() -> None:
    """Run with a share of the published epochs and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.extrapolation")
    parser.add_argument("--share", type=float, default=1.0, help="of the published epochs (1)")
    print(json.dumps(run(None, share=parser.parse_args().share), indent=2))


if __name__ == "__main__":
    main()
