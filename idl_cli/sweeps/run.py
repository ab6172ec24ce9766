"""Run a sweep from the accepted request to its tables and exit status."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from idl_cli.console import Console
from idl_cli.distributed.process import interruptible
from idl_cli.errors import IdlError
from idl_cli.reporting import Reporter
from idl_cli.requests.output_directory import claim
from idl_cli.requests.request import Accepted
from idl_cli.requests.specification import Commands
from idl_cli.run.lock import RunLock
from idl_cli.sweeps.launcher import is_grid, launching_through
from idl_cli.sweeps.plan import SweepPlan
from idl_cli.sweeps.report import report_sweep
from idl_cli.sweeps.resume import Continuation

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
        with launching_through(plan, metric, console):
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
