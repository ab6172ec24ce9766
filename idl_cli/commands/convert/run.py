"""``idl convert``: make the model, compare it with its network, keep it in a run directory."""

from __future__ import annotations

import time
import warnings
from types import MappingProxyType
from typing import Final

import torch

from idl_cli.assembly.compute import RunContext, prepare
from idl_cli.assembly.measure import evaluation_loader, metrics_of
from idl_cli.assembly.objects import build_dataset
from idl_cli.assembly.optimized_metric import check_metric
from idl_cli.assembly.run_data import record_data
from idl_cli.commands.convert.beside import Beside
from idl_cli.commands.convert.settings import ConvertSettings
from idl_cli.commands.convert.source import NetworkRequest, Source, source_of
from idl_cli.distributed.group import current
from idl_cli.errors import ConfigError
from idl_cli.evaluation import evaluate
from idl_cli.models.rescaling import rescale
from idl_cli.models.sparse.model import SparseImplicitModel
from idl_cli.reporting import Reporter
from idl_cli.run import RunDirectory, collect_environment, load_run

_PROBES = 64
_EXACT: Final = MappingProxyType({torch.float32: 1e-5, torch.float64: 1e-12})
"""Largest difference relative to the largest output that rounding explains."""


def run(settings: ConvertSettings, directory: RunDirectory, console: Reporter) -> dict[str, object]:
    """Convert a network and compare the two on the test part of a data set, or at random.

    Args:
        settings: checked.
        directory: of this run, locked.
        console: told what happens.

    Returns:
        ``metrics`` and the section ``convert`` of ``summary.json``.

    Raises:
        UnsupportedModelError: the network has an operation without an exact form.
        IdlError: it cannot be read, or does not fit the data set.
    """
    compute = prepare(
        device=settings.device,
        dtype=settings.dtype or _dtype_of_run(settings),
        seed=settings.seed,
        threads=settings.threads,
    )
    context = RunContext(settings, compute, current(compute.device), directory, console)
    directory.write_json("environment.json", collect_environment(compute.device, directory.command))
    dataset = None
    if settings.dataset is not None:
        request = NetworkRequest(settings.dataset, settings.seed, settings.teacher or {})
        dataset = build_dataset(request, context.group).learning_changes(None)
        check_metric(settings.optimized_metric, dataset, ["test"])
        record_data(dataset, directory, None)
    source = source_of(dataset, context)
    if source.task is not None and source.task.input_shape != source.input_shape:
        console.message(f"inputs are taken as {list(source.input_shape)} a sample")
    begin = time.perf_counter()
    model = source.convert()
    if settings.kappa is not None:
        model = rescale(model, settings.kappa)
    seconds = time.perf_counter() - begin
    directory.save_model(
        model,
        preprocessing=None if source.dataset is None else source.dataset.preprocessing,
        task=source.task,
        name="sparse_implicit",
    )
    metrics, section = _compared(source, model.eval(), context)
    section = {
        "source": source.origin,
        "states": model.hidden_dim,
        "blocks": len(model.blocks),
        "nonzeros": model.nonzeros,
        "inf_norm_A": model.inf_norm_A(),
        "bytes": model.bytes,
        "network_bytes": source.bytes,
        "seconds_convert": seconds,
        **section,
    }
    console.facts(f"{source.origin} as an implicit model", _facts(section))
    console.message(f"run: {directory.path}")
    return {"metrics": metrics, "convert": section}


def _dtype_of_run(settings: ConvertSettings) -> str:
    run_dir = None if settings.teacher is None else settings.teacher.get("run")
    return "float32" if run_dir is None else str(load_run(run_dir).dtype).removeprefix("torch.")


def _compared(
    source: Source, model: SparseImplicitModel, context: RunContext[ConvertSettings]
) -> tuple[dict[str, float], dict[str, object]]:
    """Figures of the model, and how far it is from the network."""
    compute, dataset = context.compute, source.dataset
    beside = Beside(model, source.network, source.input_shape)
    figures: dict[str, float] = {}
    if dataset is None:
        generator = torch.Generator().manual_seed(context.settings.seed)
        probes = torch.randn(_PROBES, *source.input_shape, generator=generator)
        beside(probes.to(device=compute.device, dtype=compute.dtype))
    else:
        if dataset.task.output_dim != model.output_dim:
            raise ConfigError(
                [
                    f"{source.origin}: gives {model.output_dim} outputs; dataset={dataset.name} "
                    f"needs {dataset.task.output_dim}"
                ]
            )
        loader = evaluation_loader(dataset.test, dataset, context.settings.batch_size, compute)
        figures = evaluate(beside, loader, dataset.task)
        context.directory.append_metrics({"split": "test", **figures})
    found = beside.found
    relative = found.largest / found.scale
    if not relative <= _EXACT[compute.dtype]:
        warnings.warn(
            f"the model's outputs are up to {found.largest:.3g} from those of {source.origin}, "
            f"{relative:.3g} of the largest, where rounding explains {_EXACT[compute.dtype]:g}: "
            "the network's own rounding may be large; try dtype=float64",
            stacklevel=2,
        )
    section: dict[str, object] = {
        "compared_on": "random inputs" if dataset is None else f"{dataset.name} (test)",
        "samples": found.samples,
        "largest_difference": found.largest,
        "relative_difference": relative,
        "agreement": found.agreeing / found.samples,
        "seconds_model": found.seconds_model,
        "seconds_network": found.seconds_network,
    }
    return metrics_of({"test": figures}), section


def _facts(section: dict[str, object]) -> dict[str, object]:
    nonzeros = section["nonzeros"]
    assert isinstance(nonzeros, dict)
    mega = {key: float(str(section[key])) / 1e6 for key in ("bytes", "network_bytes")}
    return {
        "states n": section["states"],
        "blocks": section["blocks"],
        "non-zeros": sum(nonzeros.values()),
        "memory (MB)": mega["bytes"],
        "memory of the network (MB)": mega["network_bytes"],
        "compared on": section["compared_on"],
        "samples": section["samples"],
        "largest difference": section["largest_difference"],
        "relative to the largest output": section["relative_difference"],
        "same class": section["agreement"],
        "seconds of the model": section["seconds_model"],
        "seconds of the network": section["seconds_network"],
    }
