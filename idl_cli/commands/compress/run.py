"""``idl compress``: exact reductions, then bounded ones, each measured; the last one is kept."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from idl_cli.assembly.compute import Compute, RunContext, prepare
from idl_cli.assembly.measure import evaluation_loader, metrics_of
from idl_cli.assembly.objects import build_dataset
from idl_cli.assembly.optimized_metric import check_metric
from idl_cli.assembly.run_data import record_data
from idl_cli.assembly.teacher import taken_from
from idl_cli.commands.compress.measured import Measured, measured, show
from idl_cli.commands.compress.settings import CompressSettings
from idl_cli.commands.compress.stages import Stage, model_of, stored_weights, weights_in_order
from idl_cli.config.schemas.root import Component
from idl_cli.data.dataset import Dataset
from idl_cli.distributed.group import current
from idl_cli.errors import ConfigError, IgnoredOptionWarning
from idl_cli.models.compression.bounds import output_bound, sizes_of
from idl_cli.models.compression.dropping import dropped
from idl_cli.models.compression.low_rank import with_factors
from idl_cli.models.compression.quantisation import quantised
from idl_cli.models.compression.reductions import Reduced, reduced
from idl_cli.models.sparse.model import SparseImplicitModel
from idl_cli.models.sparse.weights import SparseWeights
from idl_cli.reporting import Reporter
from idl_cli.run import LoadedRun, RunDirectory, collect_environment, load_run


@dataclass(frozen=True)
class DataOfRun:
    """The settings that ask for data.

    Attributes:
        dataset: section ``dataset``.
        seed: of the validation split.
    """

    dataset: Component
    seed: int


def run(
    settings: CompressSettings, directory: RunDirectory, console: Reporter
) -> dict[str, object]:
    """Make a run's model smaller, and measure every step on the test part.

    Args:
        settings: checked.
        directory: of this run, locked.
        console: told what happens.

    Returns:
        ``metrics`` of the smallest model and the section ``compress`` of ``summary.json``.

    Raises:
        ConfigError: the run's model is no implicit one, or does not fit the data set.
        RunError: the run holds no usable model.
    """
    loaded = load_run(Path(settings.run).expanduser())
    compute = prepare(
        device=settings.device,
        dtype=str(loaded.dtype).removeprefix("torch."),
        seed=settings.seed,
        threads=settings.threads,
    )
    context = RunContext(settings, compute, current(compute.device), directory, console)
    directory.write_json("environment.json", collect_environment(compute.device, directory.command))
    weights = weights_in_order(loaded)  # before any data are read
    if settings.dataset is None:
        raise ConfigError(
            [f"run={settings.run}: says nothing of its data set; give dataset=OPTION"]
        )
    request = DataOfRun(settings.dataset, settings.seed)
    dataset = build_dataset(request, context.group).learning_changes(None)
    check_metric(settings.optimized_metric, dataset, ["test"])
    record_data(dataset, directory, None)
    dataset = taken_from(loaded, dataset, compute).dataset
    exact, stages = _stages(weights, loaded, dataset, context)
    results = measured(stages, dataset, settings.batch_size, compute)
    last = stages[-1]
    directory.save_model(
        last.model,
        preprocessing=dataset.preprocessing,
        task=dataset.task,
        name="sparse_implicit" if isinstance(last.model, SparseImplicitModel) else "implicit",
    )
    show(f"{settings.run} made smaller", results, console)
    console.message(
        f"left out exactly: {exact.constant} constant, {exact.unreachable} unreachable and "
        f"{exact.duplicate} duplicate states; {exact.unused_inputs} inputs are not used"
    )
    _warn_of_growth(results)
    console.message(f"run: {directory.path}")
    directory.append_metrics({"split": "test", **results[-1].figures})
    return {
        "metrics": metrics_of({"test": results[-1].figures}),
        "compress": {
            "run": str(loaded.path.resolve()),
            "constant_states": exact.constant,
            "unreachable_states": exact.unreachable,
            "duplicate_states": exact.duplicate,
            "unused_inputs": exact.unused_inputs,
            "stages": [each.to_dict() for each in results],
        },
    }


def _stages(
    weights: SparseWeights,
    loaded: LoadedRun,
    dataset: Dataset,
    context: RunContext[CompressSettings],
) -> tuple[Reduced, list[Stage]]:
    settings, original, dtype = context.settings, loaded.model, context.compute.dtype
    nothing = np.zeros(weights.C.shape[0])
    stages = [Stage("before", original, weights, nothing)]
    with context.console.progress("exact reductions"):
        exact = reduced(weights)
    reference = exact.weights
    stages.append(Stage("exact", model_of(reference, original), reference, nothing))
    if settings.rank is not None and reference.is_triangular:
        factored = with_factors(reference, settings.rank)
        if len(factored.sizes) > len(reference.sizes):
            reference = factored
            model = model_of(reference, original)
            stages.append(Stage(f"rank {settings.rank}", model, reference, nothing))
    elif settings.rank is not None:
        warnings.warn(
            f"rank={settings.rank}: the states of run={settings.run} feed back on themselves; "
            "low rank plus sparse is for models that one sweep solves, and is left out",
            IgnoredOptionWarning,
            stacklevel=2,
        )
    low, high = _input_box(dataset, settings.batch_size, context.compute)
    sizes = sizes_of(reference, low, high)
    smaller = reference
    if settings.tolerance > 0:
        with context.console.progress("weights with a bound"):
            smaller, _ = dropped(reference, sizes, settings.tolerance)
        model = model_of(smaller, original)
        bound = output_bound(reference, stored_weights(model), sizes)
        stages.append(Stage(f"± {settings.tolerance:g}", model, smaller, bound))
    if settings.quantize == "int8":
        model = model_of(quantised(smaller, dtype), original, quantized=True)
        stored = stored_weights(model)
        stages.append(Stage("int8", model, stored, output_bound(reference, stored, sizes)))
    return exact, stages


def _input_box(
    dataset: Dataset, batch_size: int, compute: Compute
) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and largest value of each input over all parts of a data set (p,)."""
    low, high = torch.tensor(torch.inf), torch.tensor(-torch.inf)
    for part in (dataset.train, dataset.validation, dataset.test):
        if part is None:
            continue
        for inputs, _ in evaluation_loader(part, dataset, batch_size, compute):
            flat = inputs.flatten(1).double().cpu()
            low, high = torch.minimum(low, flat.amin(0)), torch.maximum(high, flat.amax(0))
    return low.numpy(), high.numpy()


def _warn_of_growth(results: list[Measured]) -> None:
    if results[-1].stored_bytes > results[0].stored_bytes:
        warnings.warn(
            f"the model takes {results[-1].stored_bytes:,} bytes, where it took "
            f"{results[0].stored_bytes:,}: it had little to leave out, or low-rank factors whose "
            "product is larger",
            IgnoredOptionWarning,
            stacklevel=3,
        )
