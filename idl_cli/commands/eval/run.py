"""``idl eval``: the model of a run, measured on its own or on another data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from idl_cli.assembly.compute import RunContext, prepare
from idl_cli.assembly.measure import (
    evaluation_loader,
    metrics_of,
    show_figures,
    timed_evaluation,
)
from idl_cli.assembly.optimized_metric import check_metric
from idl_cli.assembly.sequence_report import report_sequences
from idl_cli.commands import configured
from idl_cli.commands.eval.data import evaluation_dataset
from idl_cli.commands.eval.settings import EvalSettings
from idl_cli.distributed.group import current
from idl_cli.errors import RunError
from idl_cli.reporting import Reporter
from idl_cli.requests.config_files import load_config
from idl_cli.requests.preflight import checked_settings
from idl_cli.run import (
    CHECKPOINTS,
    LoadedRun,
    RunDirectory,
    collect_environment,
    load_run,
    read_overrides,
    read_record,
)
from idl_cli.run.files import read_json
from idl_cli.run.state import read_state
from idl_cli.training.weight_average import kept_weights

_DEFAULT_BATCH_SIZE = 128


def run(settings: EvalSettings, directory: RunDirectory, console: Reporter) -> dict[str, object]:
    """Measure a run's model.

    On the run's own data every part is measured, with the run's seed, batch size, dtype,
    preprocessing and number of threads: the figures are those of the run, to the bit. Of another
    data set the test part is measured, and of a user's file that is not divided all of it, unless
    ``dataset.test_fraction`` is asked for.

    Args:
        settings: checked.
        directory: of this evaluation, locked.
        console: told what happens.

    Returns:
        ``metrics`` and the section ``eval`` of ``summary.json``.

    Raises:
        RunError: the run holds no usable model.
        ConfigError: the data set does not fit the model, or the run's own is not what it was.
    """
    path = Path(settings.run).expanduser()
    loaded = load_run(path)
    own = settings_of(path)
    compute = prepare(
        device=settings.device,
        dtype=str(loaded.dtype).removeprefix("torch."),
        seed=settings.seed,
        threads=settings.threads or _threads_of(path),
    )
    directory.write_json("environment.json", collect_environment(compute.device, directory.command))
    choose_weights(loaded, settings.checkpoint)
    loaded.model.to(compute.device)
    seed = settings.seed if own is None else int(own["seed"])
    dataset = evaluation_dataset(settings, own, seed, loaded, read_overrides(directory.path))
    check_metric(settings.optimized_metric, dataset, ["test"] if settings.dataset else None)
    batch_size = settings.batch_size or _batch_size_of(own)
    parts = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    if settings.dataset is not None:
        parts = {"test": dataset.test}
    figures = {
        name: timed_evaluation(
            loaded.model, evaluation_loader(part, dataset, batch_size, compute), dataset.task
        )
        for name, part in parts.items()
        if part is not None
    }
    context = RunContext(settings, compute, current(compute.device), directory, console)
    extra = report_sequences(loaded.model, dataset, batch_size, context)
    samples = {name: len(part) for name, part in parts.items() if part is not None}
    show_figures(f"{path} on {dataset.name}", {**figures, **extra.beside}, console, samples)
    console.message(f"run: {directory.path}")
    for name, values in figures.items():
        directory.append_metrics({"split": name, **values})
    return {
        "metrics": {**metrics_of(figures), **extra.metrics},
        **extra.sections,
        "eval": {
            "run": str(path.resolve()),
            "checkpoint": settings.checkpoint,
            "dataset": dataset.name,
            "batch_size": batch_size,
            "samples": samples,
        },
    }


def settings_of(path: Path) -> Mapping[str, Any] | None:
    """Return the settings a run was made with, None where it holds none (a Python caller's run)."""
    file = path / ".hydra" / "config.yaml"
    if not file.exists():
        return None
    command = read_record(path).command
    if command is None:
        raise RunError(f"{path}: neither summary.json nor .hydra/ says which command made it")
    commands = configured()
    if command not in commands:
        raise RunError(f"{path}: made by `idl {command}`, which trains no model")
    return checked_settings(cast(Any, load_config(file)), commands[command], commands)


def choose_weights(loaded: LoadedRun, checkpoint: str) -> None:
    """Put the weights of a run's checkpoint into its model; ``model`` leaves it as the run did.

    Of a training with an average of the weights, the averaged ones.
    """
    if checkpoint == "model":
        return
    file = loaded.path / CHECKPOINTS / f"{checkpoint}.safetensors"
    state = cast(Mapping[str, Any], read_state(file))
    try:
        loaded.model.load_state_dict(kept_weights(state["trainer"]))
    except (LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise RunError(f"{file}: does not fit the run's model: {error}") from error


def _batch_size_of(own: Mapping[str, Any] | None) -> int:
    trainer = {} if own is None else own.get("trainer", {})
    return int(trainer.get("batch_size", _DEFAULT_BATCH_SIZE))


def _threads_of(path: Path) -> int | None:
    """Return the run's number of threads: sums are rounded in an order that depends on it."""
    file = path / "environment.json"
    threads = read_json(file).get("threads") if file.exists() else None
    return threads if isinstance(threads, int) else None
