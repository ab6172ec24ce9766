"""``idl export``: the model of a run in a form that other programs read."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from idl_cli import registry
from idl_cli.assembly.compute import prepare
from idl_cli.assembly.run_data import has_changed
from idl_cli.commands.export.settings import ExportSettings
from idl_cli.data.dataset import Dataset
from idl_cli.errors import ConfigError, RunError
from idl_cli.export.card import model_card
from idl_cli.export.check import Checked, check
from idl_cli.export.deployment import Deployment, Format, Written
from idl_cli.reporting import Reporter
from idl_cli.run import LoadedRun, RunDirectory, collect_environment, load_run, read_record
from idl_cli.run.files import write_atomic


def run(settings: ExportSettings, directory: RunDirectory, console: Reporter) -> dict[str, object]:
    """Write a run's model in another form, and hold it against the run over all test samples.

    Args:
        settings: checked.
        directory: of this export, locked.
        console: told what happens.

    Returns:
        ``metrics`` (``bytes``, ``difference``, ``other_classes``) and the section ``export`` of
        ``summary.json``.

    Raises:
        RunError: the run holds no usable model, or the exported one differs from it.
        ConfigError: the data are not those of the run, or the folder is taken.
        UnsupportedModelError: the form cannot hold such a model.
    """
    path = Path(settings.run).expanduser()
    loaded = load_run(path)
    compute = prepare(
        device="cpu",
        dtype=str(loaded.dtype).removeprefix("torch."),
        seed=settings.seed,
        threads=settings.threads,
    )
    directory.write_json("environment.json", collect_environment(compute.device, directory.command))
    folder = _folder(settings.output, directory)
    deployment = _deployment(settings, loaded)
    form: Format = registry.build("format", settings.format)
    with tempfile.TemporaryDirectory(prefix=".idl-export-", dir=folder.parent) as made:
        inside = Path(made) / folder.name
        inside.mkdir()
        written = form.write(deployment, inside)
        checked = check(deployment, written, timed=settings.latency)
        shutil.rmtree(inside / "__pycache__", ignore_errors=True)
        files = {
            str(file.relative_to(inside)): file.stat().st_size
            for file in sorted(inside.rglob("*"))
            if file.is_file()
        }
        figures = _figures(checked)
        card = model_card(
            deployment, written, files=files, checked=figures, licence=settings.license
        )
        write_atomic(inside / "README.md", card.encode())
        inside.chmod(0o755)
        os.replace(inside, folder)
    total = sum(files.values())
    dense = sum(each.numel() * each.element_size() for each in loaded.model.state_dict().values())
    sizes = {"bytes": total, "dense": dense}
    _tell(console, folder, settings, written, checked, sizes, deployment.output_unit)
    return {
        "metrics": {
            "bytes": total,
            "difference": checked.difference,
            "other_classes": checked.other_classes,
        },
        "export": {
            "run": str(path.resolve()),
            "format": settings.format["name"],
            "folder": str(folder),
            "files": files,
            "dense_bytes": dense,
            "samples": checked.samples,
            "difference_bound": checked.bound,
            "own_difference": checked.own_difference,
            "bound": None if written.bound is None else vars(written.bound),
            "milliseconds": checked.milliseconds,
        },
    }


def _folder(output: str | None, directory: RunDirectory) -> Path:
    if output is None:
        return directory.path / "model"
    folder = Path(output).expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError([f"output={output}: is there already; choose a new or empty folder"])
    if not folder.parent.is_dir():
        raise ConfigError([f"output={output}: {folder.parent} is no folder; make it first"])
    return folder


def _deployment(settings: ExportSettings, loaded: LoadedRun) -> Deployment:
    path = loaded.path
    if loaded.task is None:
        raise RunError(f"{path}: does not say what its model predicts; it cannot be exported")
    record = read_record(path)
    own = record.config.get("dataset")
    chosen: Any = settings.dataset if settings.dataset is not None else own
    if not isinstance(chosen, Mapping):
        raise ConfigError([f"run={path}: says nothing of its data set; give dataset=OPTION"])
    dataset: Dataset = registry.build("dataset", chosen, seed=int(record.config.get("seed", 0)))
    if has_changed(dataset, path):
        warnings.warn(
            f"dataset={dataset.name}: the data have changed since run={path} was made with them;"
            " the range of the inputs and the comparison are those of the data as they are now",
            stacklevel=2,
        )
    if dataset.task.input_shape != loaded.task.input_shape:
        raise ConfigError(
            [
                f"dataset={dataset.name}: samples of shape {dataset.task.input_shape}; the model of"
                f" {path} takes {loaded.task.input_shape}"
            ]
        )
    return Deployment(loaded, loaded.task, dataset, record.summary or {}, record.config)


def _figures(checked: Checked) -> dict[str, object]:
    figures: dict[str, object] = {
        "test samples compared": checked.samples,
        "largest difference from the equilibrium in double precision": checked.difference,
        "the same of the run's own model": checked.own_difference,
    }
    if checked.other_classes is not None:
        figures["test samples with another class than the run's"] = checked.other_classes
    for who, times in checked.milliseconds.items():
        for count, value in times.items():
            figures[f"{who}, batch of {count}, milliseconds"] = value
    return figures


def _tell(
    console: Reporter,
    folder: Path,
    settings: ExportSettings,
    written: Written,
    checked: Checked,
    sizes: Mapping[str, int],
    unit: float,
) -> None:
    share = sizes["bytes"] / max(1, sizes["dense"])
    facts = {"size": f"{sizes['bytes']:,} bytes ({share:.0%} of the dense weights)"}
    if written.bound is not None:
        bound = written.bound
        facts["steps"] = "one exact sweep" if not bound.steps else f"{bound.steps}"
        facts["proven"] = (
            f"outputs within {bound.truncation:.3g} and rounding {bound.rounding:.3g},"
            f" for {bound.inputs}"
        )
    console.facts(f"format={settings.format['name']}", {**facts, **_figures(checked)})
    if checked.other_classes:
        console.warning(
            f"{checked.other_classes} of {checked.samples:,} test samples have another class than"
            f" in the run: their two classes are {checked.doubtful:.3g} apart at most"
        )
    tolerance = settings.format.get("tolerance")
    proven = 0.0 if written.bound is None else written.bound.truncation
    if tolerance is not None and not max(proven, checked.difference / unit) <= tolerance:
        console.warning(
            f"format.tolerance={tolerance:g} is not reached: proven is {proven:.3g}, and"
            f" {checked.difference:.3g} was measured"
        )
    console.message(f"exported: {folder}")
