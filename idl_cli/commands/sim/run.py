"""``idl sim``: from a teacher's states to a certified implicit model in a run directory."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from idl_cli import registry
from idl_cli.assembly.compute import RunContext, begin
from idl_cli.assembly.idle_options import warn_of_idle_sim_options
from idl_cli.assembly.objects import build_dataset
from idl_cli.assembly.optimized_metric import check_metric
from idl_cli.assembly.run_data import record_data
from idl_cli.assembly.teacher import Teacher, new_teacher, present_teacher, shared_teacher
from idl_cli.commands.sim.checkpoints import StageCheckpoints
from idl_cli.commands.sim.scores import recording_loader
from idl_cli.commands.sim.settings import SimSettings
from idl_cli.commands.sim.sim_estimate import estimate
from idl_cli.commands.sim.sim_job import SimJob
from idl_cli.data.dataset import Dataset
from idl_cli.errors import ConfigError, IgnoredOptionWarning
from idl_cli.loggers import open_logger
from idl_cli.reporting import Reporter
from idl_cli.run import RunDirectory, collect_environment
from idl_cli.sim.regression.solver import BaseSolver
from idl_cli.sim.sim import SIM


def run(settings: SimSettings, directory: RunDirectory, console: Reporter) -> dict[str, object]:
    """Train an implicit model from a teacher's states and leave behind what DESIGN promises.

    Several ranks run this together, and the first one alone measures the model and reports.

    Args:
        settings: checked.
        directory: of this run, locked.
        console: told what happens.

    Returns:
        ``metrics`` and the section ``sim`` of ``summary.json``; on the ranks that do not report,
        empty ``metrics``.

    Raises:
        IdlError: the work cannot be done; the message says why.
    """
    context = begin(settings, directory, console)
    compute, group = context.compute, context.group
    if settings.resume is not None:  # a solve that was kept goes on, with a history of its own
        directory.truncate_metrics(0)
    directory.write_json("environment.json", collect_environment(compute.device, directory.command))
    solver: BaseSolver = registry.build("solver", _of_these_processes(settings.solver))
    sim: SIM = registry.build(
        "trainer",
        settings.trainer,
        states=settings.teacher["states"],
        device=compute.device,
        dtype=compute.dtype,
        group=group,
    )
    solver = sim.suitable(solver)
    sim.warn_ignored(solver)  # before any data are read
    warn_of_idle_sim_options(settings)
    dataset = build_dataset(settings, group)
    if group.is_main and not settings.trainer["dry_run"]:
        resumed = directory.path if settings.resume == "auto" else settings.resume
        record_data(dataset, directory, None if resumed is None else Path(resumed))
    wanted = settings.trainer["samples"]
    if wanted is not None and wanted > len(dataset.train):
        warnings.warn(
            f"trainer.samples={wanted}: the training part has {len(dataset.train):,}; the states of"
            " all of them are recorded",
            IgnoredOptionWarning,
            stacklevel=2,
        )
    check_metric(settings.optimized_metric, dataset)
    # The equilibrium model that is made has no place for the differencing around it.
    dataset = dataset.learning_changes(None)
    choice = settings.trainer["select_lambda"]
    if choice is not None and dataset.validation is None:
        raise ConfigError(
            [
                f"trainer.select_lambda={choice}: dataset.validation_fraction=0 leaves no "
                "validation part to choose on; set it above 0, such as 0.1"
            ]
        )
    if choice == "certified" and dataset.task.kind != "classification":
        raise ConfigError(
            [
                f"trainer.select_lambda=certified: dataset={dataset.name} has no classes to keep; "
                "choose validation"
            ]
        )
    if settings.trainer["dry_run"]:
        return _dry_run(dataset, sim, context)
    teacher = shared_teacher(dataset, context)
    resumed_step = None if settings.resume is None else 0
    with open_logger(
        asdict(settings), directory if group.is_main else None, resumed_step=resumed_step
    ) as logger:
        resumed = directory.path if settings.resume == "auto" else settings.resume
        source = None if resumed is None else Path(resumed).expanduser()
        checkpoints = StageCheckpoints(directory, source, group)
        job = SimJob(context, sim, solver, teacher, logger, checkpoints)
        recording = job.record()
        found, candidates = job.fit(recording)
        checkpoints.remove()
        sim.keep(found, recording, solver)
        if not group.is_main:
            return {"metrics": {}}
        report = job.finish(found, recording, candidates)
        logger.finish({**report["metrics"], "sim": report["sim"]})
    return report


def _of_these_processes(solver: Mapping[str, Any]) -> dict[str, Any]:
    """A solver's settings without processes of its own: those there are have been decided on.

    From Python it would start one a GPU; here the run may be one of several jobs of this machine,
    or meant for the CPU.
    """
    decided = {"devices": None, "processes": 1}
    return {key: decided.get(key, value) for key, value in solver.items()}


def _dry_run(dataset: Dataset, sim: SIM, context: RunContext[SimSettings]) -> dict[str, object]:
    """Look at the teacher, untrained where it would be trained, and say what would be done."""
    settings, compute, console = context.settings, context.compute, context.console
    teacher = present_teacher(dataset, context)
    if teacher is None:
        teacher = Teacher(new_teacher(settings, dataset, compute), dataset, "not trained", 0.0)
    loader = recording_loader(settings, teacher.dataset, compute)
    expected = estimate(sim, teacher.model, loader)
    console.facts("estimate", expected.described())
    console.message("trainer.dry_run=true: nothing was trained")
    return {"metrics": {}, "dry_run": asdict(expected)}
