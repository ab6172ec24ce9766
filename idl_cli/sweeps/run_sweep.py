"""Run a sweep from the accepted request to its tables and exit status."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from idl_cli.console import Console
from idl_cli.distributed.process import interruptible
from idl_cli.errors import IdlError
from idl_cli.reporting import Reporter
from idl_cli.requests.output_directory import claim
from idl_cli.requests.request import Accepted
from idl_cli.requests.specification import Commands
from idl_cli.run.lock import RunLock
from idl_cli.sweeps.launcher import SweepLauncher, is_grid
from idl_cli.sweeps.report import report_sweep
from idl_cli.sweeps.resume import Continuation
from idl_cli.sweeps.sweep_plan import SweepPlan

Launch = Callable[[Sequence[str]], int]
"""Runs Hydra with overrides; returns its exit status."""


def run_sweep(
    accepted: Accepted,
    launch: Launch,
    *,
    request: tuple[str, ...],
    continued: Continuation | None,
) -> int:
    """Run a sweep, or what is left of one.

    Args:
        accepted: the request, checked.
        launch: hands overrides to Hydra.
        request: what the user typed.
        continued: the sweep that goes on; None for a new one.

    Returns:
        0 when every job that was asked for has completed.

    Raises:
        ConfigError: a study was to go on with other values.
        IdlError: some jobs did not complete; the others have.
        KeyboardInterrupt: SIGINT or SIGTERM came.
    """
    console = Console(logged=False)
    command = accepted.request.command.name
    telling_hydra: Sequence[str]
    if continued is None:
        directory, telling_hydra = claim(accepted, sweep=True)
        plan = SweepPlan(directory, command, request, finish=True)
    else:
        if not is_grid(accepted.hydra):
            continued.refuse_new_values()
        plan = continued.plan
        if plan.damage is not None:
            console.warning(plan.damage)
        if continued.new_values:
            plan.added.append(continued.overrides)
        directory = plan.directory
        telling_hydra = [_sweep_dir(directory)]
    directory.mkdir(parents=True, exist_ok=True)
    metric = accepted.settings["optimized_metric"]
    commands = accepted.request.commands
    with _locked(directory), interruptible(), _reported(directory, commands, console, metric):
        plan.save()
        overrides = (*accepted.overrides, *telling_hydra)
        with _launching_through(plan, metric, console):
            status = _launch(accepted, overrides, launch, plan, console)
    left = plan.unfinished()
    missed = [str(job) for job in plan.asked_for if job in left]
    if missed:
        raise IdlError(
            f"{len(missed)} of {len(plan.asked_for)} jobs failed: {', '.join(missed)}; each says "
            f"why in {directory}/JOB/summary.json and run.log; "
            f"`idl {command} -m sweep.resume={directory}` runs them again"
        )
    if left:
        console.message(
            f"job {', '.join(map(str, left))}: asked for before and not complete; "
            f"`idl {command} -m sweep.resume={directory}` runs what is left"
        )
    return status


@contextmanager
def _launching_through(plan: SweepPlan, metric: str | None, console: Reporter) -> Iterator[None]:
    """Have the sweeper that Hydra makes next launch its jobs through a ``SweepLauncher``.

    Hydra offers no place to hand a launcher in, but every sweeper gets its own from this one
    method. It is put back before the first job starts, since launchers copy Hydra's registry of
    plug-ins into other processes.
    """
    plug_ins = Plugins.instance()
    original = plug_ins.instantiate_launcher

    def instantiate_launcher(
        hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> Launcher:
        restore()
        inner = original(hydra_context=hydra_context, task_function=task_function, config=config)
        return SweepLauncher(inner, config, plan, metric, console)

    def restore() -> None:
        vars(plug_ins).pop("instantiate_launcher", None)

    plug_ins.instantiate_launcher = instantiate_launcher  # type: ignore[method-assign]
    try:
        yield
    finally:
        restore()


def _sweep_dir(directory: Path) -> str:
    quoted = str(directory).replace("'", r"\'")
    return f"hydra.sweep.dir='{quoted}'"


def _launch(
    accepted: Accepted,
    overrides: Sequence[str],
    launch: Launch,
    plan: SweepPlan,
    console: Reporter,
) -> int:
    """Hand a grid to Hydra as it is, a study once it is ready to go on."""
    if is_grid(accepted.hydra):
        return launch(overrides)
    from idl_cli.sweeps.optuna_study import is_study, prepare_study, run_study

    if not is_study(accepted.hydra):
        return launch(overrides)
    given = frozenset(override.partition("=")[0].lstrip("+~") for override in accepted.overrides)
    added = prepare_study(accepted.hydra, accepted.settings, given, plan, console)
    return run_study(lambda: launch((*overrides, *added)))


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep others from continuing a sweep that runs."""
    lock = RunLock(directory)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _reported(
    directory: Path, commands: Commands, console: Reporter, metric: str | None
) -> Iterator[None]:
    """Leave the sweep's tables behind, also where it was interrupted or a job failed."""
    try:
        yield
    finally:
        report_sweep(directory, commands, console, metric)
