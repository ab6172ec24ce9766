"""What is proven of models trained in different ways, beside what an attack finds.

784 pixels, inputs in [0, 1]: implicit models trained plainly, adversarially and for certificates;
on MNIST also a network that starts from thresholds of the pixels (``benchmarks.pixel_thresholds``);
a network of 64-32-16 hidden units turned into implicit models by state-driven training: dense, with
90 % zeros, and with an l1 term ten and a hundred times the usual one. For each: accuracy without
perturbation, accuracy that survives the attack, and certified accuracy, at five radii; the mean
certified radius of the tightest bound and of the norm bound.

Every model is a run below ``benchmarks/results/certify``, trained by ``idl train`` or ``idl sim``
and judged by ``idl certify``; a run that is complete is not made again, one that was stopped is
continued. MNIST is taken from the folder that MNIST_ROOT names, and left out where it is not set.
``CELLS=fashion_mnist/certified`` measures those models alone whose names begin so; SAMPLES says how
many test samples are judged (1000).
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from benchmarks import pixel_thresholds
from idl_cli.run.files import json_bytes, write_atomic

CELLS: Final = Path(__file__).parent / "results" / "certify"
EPSILONS: Final = (0.01, 0.02, 0.05, 0.1, 0.2)
_PIXELS: Final = ("dataset.normalize=none", "dataset.validation_fraction=0", "report=false")
_PLAIN: Final = ("train", "model.hidden_dim=100", "trainer.epochs=5", *_PIXELS)
_ATTACKED: Final = (
    *("trainer.robust=adversarial", "trainer.perturbation.epsilon=0.1"),
    *("trainer.perturbation.ramp_epochs=2", "trainer.perturbation.attack_steps=5"),
)
_SIM: Final = ("sim", *_PIXELS)
_TEACHER: Final = "teacher.run={folder}/sim"
MODELS: Final = MappingProxyType(
    {
        "plain": _PLAIN,
        "adversarial": (*_PLAIN, *_ATTACKED),
        "sim": _SIM,
        "sim 90 % zeros": (
            *(*_SIM, _TEACHER),
            *("trainer.nonzeros=0.1", "trainer.structure=feedforward"),
        ),
        "sim l1 1e-4": (*_SIM, _TEACHER, "trainer.lambda_z=1e-4", "trainer.lambda_y=1e-5"),
        "sim l1 1e-3": (*_SIM, _TEACHER, "trainer.lambda_z=1e-3", "trainer.lambda_y=1e-4"),
    }
)
"""Model → the words after ``idl``; the models of state-driven training share one teacher."""

_NETWORK: Final = (
    *("train", *pixel_thresholds.OPTIONS, "trainer.keep_sparsity=true", *_PIXELS),
    *("trainer.robust=interval", "trainer.epochs=4", "trainer.perturbation.clean_epochs=0.25"),
    *("trainer.perturbation.ramp_epochs=2", "trainer.perturbation.clean_weight=0.05"),
    *("optimizer.lr=2e-3", "scheduler=step", "scheduler.every_epochs=3", "scheduler.gamma=0.1"),
)
THRESHOLDS: Final = MappingProxyType({0.1: 0.15, 0.2: 0.25, 0.3: 0.32})
"""ε of the networks trained on MNIST from thresholds of pixels → the threshold they start at."""


def run(root: Path | None = None) -> dict[str, object]:
    """Train and judge what is missing, and print a row a model.

    Args:
        root: folder of Fashion-MNIST's four IDX files; None downloads them.

    Returns:
        For each data set a row a model.
    """
    tables = {}
    for dataset, place in (("fashion_mnist", root), ("mnist", os.environ.get("MNIST_ROOT"))):
        if dataset == "mnist" and place is None:
            print("mnist: not measured, MNIST_ROOT is not set", flush=True)
            continue
        where = () if place is None else (f"dataset.root={place}",)
        tables[dataset] = list(_rows(dataset, where))
    return {"epsilons": EPSILONS, "tables": tables}


def _rows(dataset: str, where: tuple[str, ...]) -> Iterator[dict[str, object]]:
    models: dict[str, tuple[str, ...]] = {
        name: (
            command,
            f"dataset={dataset}",
            *(option.format(folder=CELLS / dataset) for option in options),
        )
        for name, (command, *options) in MODELS.items()
    }
    models["certified 0.1"] = ("train", f"experiment=certified_{dataset}", "report=false")
    for epsilon, threshold in THRESHOLDS.items() if dataset == "mnist" else ():
        start = CELLS / dataset / f"start_{threshold:g}"
        pixel_thresholds.save_start(start, threshold)
        models[f"certified network {epsilon:g}"] = (
            *(*_NETWORK, f"dataset={dataset}", f"model.init_run={start}"),
            f"trainer.perturbation.epsilon={epsilon:g}",
        )
    for name, (command, *options) in models.items():
        if f"{dataset}/{name}".startswith(os.environ.get("CELLS", "")):
            folder = CELLS / dataset / name.replace(" ", "_").replace("%", "percent")
            _idl(folder, command, *options, *where)
            row = _judged(dataset, name, folder, where)
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
            yield row


def _judged(dataset: str, name: str, folder: Path, where: tuple[str, ...]) -> dict[str, object]:
    """The row of a trained model, its certificates from their file where they are there."""
    radii, samples = ",".join(map(str, EPSILONS)), os.environ.get("SAMPLES", "1000")
    judged = folder / "certify"
    options = (f"epsilon=[{radii}]", f"samples={samples}", "attack=pgd", *where)
    _idl(judged, "certify", f"run={folder}", *options, "report=false")
    found = json.loads((judged / "certify.json").read_text())
    radius = found["radius"]
    return {
        "data": dataset,
        "model": name,
        "test_accuracy": _percent(_summary(folder)["metrics"]["test_accuracy"]),
        "clean": _percent(found["epsilons"][0]["clean_accuracy"]),
        "attacked": [_percent(each["attacked_accuracy"]) for each in found["epsilons"]],
        "certified": [_percent(each["certified_accuracy"]) for each in found["epsilons"]],
        "radius": round(radius["mean"], 5),
        "norm_radius": round(radius["norm_mean"], 5),
        "ms_per_sample": [round(each["ms_per_sample"], 2) for each in found["epsilons"]],
        "training_seconds": _seconds(folder),
    }


def _idl(folder: Path, command: str, *options: str) -> None:
    """Run a sub-command in a folder, unless it is complete there; keep its processor seconds."""
    if _summary(folder).get("status") == "completed":
        return
    resume: tuple[str, ...] = ("resume=auto",)
    if command == "certify":
        shutil.rmtree(folder, ignore_errors=True)  # it starts anew
        resume = ()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "idl_cli", command, *options, *resume, f"hydra.run.dir={folder}"],
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    write_atomic(folder / "seconds.json", json_bytes(seconds))


def _summary(folder: Path) -> dict[str, Any]:
    path = folder / "summary.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def _seconds(folder: Path) -> float | None:
    path = folder / "seconds.json"
    return round(json.loads(path.read_text()), 1) if path.is_file() else None


def _percent(share: float) -> float:
    return round(100 * share, 2)
