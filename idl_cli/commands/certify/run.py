"""``idl certify``: what is proven of a run's model, and what an attack finds."""

from __future__ import annotations

import warnings
from pathlib import Path

from torch import nn

from idl_cli.assembly.compute import prepare
from idl_cli.certificates.certification import Certifier
from idl_cli.certificates.equation import Equation
from idl_cli.certificates.lipschitz import LipschitzBounds
from idl_cli.certificates.options import CertifyOptions
from idl_cli.certificates.problem import Judged
from idl_cli.certificates.region import InputUnit
from idl_cli.commands.certify import record
from idl_cli.commands.certify.judgement import Judgement, judge
from idl_cli.commands.certify.settings import CertifySettings
from idl_cli.commands.eval.data import evaluation_dataset
from idl_cli.commands.eval.run import choose_weights, settings_of
from idl_cli.commands.eval.settings import EvalSettings
from idl_cli.data.dataset import Dataset
from idl_cli.data.input_unit import valid_inputs
from idl_cli.errors import (
    ConfigError,
    IgnoredOptionWarning,
    NonFiniteError,
    RunError,
    UnsupportedModelError,
)
from idl_cli.reporting import Reporter
from idl_cli.run import RunDirectory, collect_environment, load_run, read_overrides


def run(settings: CertifySettings, directory: RunDirectory, console: Reporter) -> dict[str, object]:
    """Certify a run's model.

    Args:
        settings: checked.
        directory: of this certification, locked.
        console: told what happens.

    Returns:
        ``metrics`` and the section ``certify`` of ``summary.json``.

    Raises:
        RunError: the run holds no usable model, or one of which nothing is proven.
        ConfigError: the data set does not fit the model, or the run's own is not what it was.
        AssertionError: a bound and an attack contradict each other.
    """
    path = Path(settings.run).expanduser()
    loaded = load_run(path)
    choose_weights(loaded, settings.checkpoint)
    if settings.device not in ("auto", "cpu"):
        _warn(f"device={settings.device}: certificates are made on the CPU, in float64")
    own = settings_of(path)
    dtype = str(loaded.dtype).removeprefix("torch.")
    prepare(device="cpu", dtype=dtype, seed=settings.seed, threads=settings.threads)
    directory.write_json("environment.json", collect_environment("cpu", directory.command))
    judged = _proven(loaded.model, path)
    seed = settings.seed if own is None else int(own["seed"])
    chosen = EvalSettings(run=settings.run, dataset=settings.dataset)
    dataset = evaluation_dataset(chosen, own, seed, loaded, read_overrides(directory.path))
    known = settings.clip and valid_inputs(dataset.preprocessing) is not None
    unit = InputUnit.of(dataset.preprocessing, (0.0, 1.0) if known else None)
    if judged.equation.inputs != len(unit.mean):
        raise ConfigError(
            [
                f"dataset={dataset.name}: has {len(unit.mean)} inputs a sample, the model of"
                f" {settings.run} takes {judged.equation.inputs}"
            ]
        )
    bounds = LipschitzBounds.of(judged, unit.deviation)
    judgement = _judgement(judged, unit, loaded.model, dataset, settings, console)
    proof = judged.proof.figures()
    record.show(console, f"{path} on {dataset.name}", proof, bounds, judgement)
    section: dict[str, object] = {
        "run": str(path.resolve()),
        "checkpoint": settings.checkpoint,
        "dataset": dataset.name,
        "norm": settings.norm,
        "method": settings.method,
        "valid_range": unit.valid,
        "well_posedness": proof,
        "lipschitz": bounds.figures(),
    }
    metrics: dict[str, object] = {}
    if judgement is not None:
        section["samples"] = len(judgement.classes)
        section["epsilons"] = record.shares(judgement)
        section["radius"] = record.radius_figures(judgement)
        metrics = record.metrics(judgement)
        record.write_samples(directory, judgement)
    weights = judged.proof.forward.weights.tolist()
    directory.write_json(
        "certify.json", {**section, "well_posedness": {**proof, "weights": weights}}
    )
    record.draw(directory, judgement, bounds, dataset.task)
    console.message(f"run: {directory.path}")
    return {"metrics": metrics, "certify": section}


def _proven(model: nn.Module, path: Path) -> Judged:
    """The model with the proof that it is well-posed."""
    try:
        return Judged.of(Equation.of(model))
    except (UnsupportedModelError, NonFiniteError) as error:
        raise RunError(f"run={path}: {error}") from error


def _judgement(
    judged: Judged,
    unit: InputUnit,
    model: nn.Module,
    dataset: Dataset,
    settings: CertifySettings,
    console: Reporter,
) -> Judgement | None:
    if dataset.task.kind != "classification":
        _warn(
            f"epsilon={list(settings.epsilon)}: a regression has no classes to keep; what is proven"
            " is that the model is well-posed, and its Lipschitz bounds"
        )
        return None
    if settings.norm == "l2" and settings.attack in ("fgsm", "strongest"):
        _warn(f"attack={settings.attack}: is of linf alone; beside norm=l2 it is pgd")
    part = dataset.test
    count = len(part) if settings.samples is None else min(settings.samples, len(part))
    values = part.inputs[:count].double().flatten(1) / dataset.preprocessing.divisor
    for key in ("branches", "branch_seconds"):
        value = getattr(settings, key)
        if settings.method != "complete" and value != getattr(CertifyOptions, key):
            _warn(f"{key}={value}: has no effect with method={settings.method}; choose complete")
    certifier = Certifier(
        judged,
        unit,
        norm=settings.norm,
        method=settings.method,
        branches=settings.branches,
        branch_seconds=settings.branch_seconds,
    )
    batches = len(list(certifier.batches(count)))
    rounds = len(settings.epsilon) + bool(settings.radius_steps)
    with console.progress("certifying", total=batches * rounds) as bar:
        return judge(certifier, model, values, part.targets[:count], settings, bar.advance)


def _warn(text: str) -> None:
    warnings.warn(text, IgnoredOptionWarning, stacklevel=3)
