"""Run a command whose request is a Hydra configuration: flags, pre-flight, launch, exit status.

Hydra parses, composes, sweeps and launches; this module makes sure that a wrong request never
gets that far, and turns what comes back into an exit status.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

import hydra
from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from idl_cli import registry
from idl_cli.config.options import config_directory
from idl_cli.distributed.environment import Launched, environment_variables, launched
from idl_cli.errors import ConfigError, IdlError, unforeseen
from idl_cli.jobs.job import Job
from idl_cli.jobs.ranks import refuse_missing_devices
from idl_cli.requests.compose import VERSION_BASE, store_root
from idl_cli.requests.help_page import help_page
from idl_cli.requests.output_directory import claim
from idl_cli.requests.overrides import is_of_hydra, with_home
from idl_cli.requests.preflight import preflight
from idl_cli.requests.request import Accepted, Request
from idl_cli.requests.specification import Command
from idl_cli.sweeps.resume import Continuation, continuation

Task: TypeAlias = Callable[[DictConfig], "float | None"]

_FLAGS = ("hydra_help", "help", "cfg", "resolve", "package", "run", "multirun", "shell_completion")
_RAW_ERRORS: Final = MappingProxyType({"HYDRA_FULL_ERROR": "1"})
"""Has Hydra raise what a job raised, instead of printing it and exiting with 1."""


def main(job: Job, arguments: Sequence[str]) -> int:
    """Run ``idl COMMAND ARGUMENTS`` and return the exit status.

    Args:
        job: the command, and all that there are.
        arguments: what follows the command's name.

    Raises:
        ConfigError: the request is wrong, a reference of Hydra's own part that leads nowhere
            included: it is looked up where it is needed.
    """
    try:
        return _answer(job, arguments)
    except OmegaConfBaseException as error:
        said = str(error).partition("\n")[0]
        raise ConfigError([f"{getattr(error, 'full_key', '')}: {said}"]) from error


def _answer(job: Job, arguments: Sequence[str]) -> int:
    command = job.command
    flags = _parse(command.name, arguments)
    place = launched()
    if place is not None and place.rank and (_asks_only(flags) or flags.cfg is not None):
        return 0  # rank 0 answers
    if flags.help:
        sys.stdout.write(help_page(_request(job, flags)))
        return 0
    if _asks_only(flags):
        return _hydra(command, flags, flags.overrides, job)
    flags.overrides = command.complete_overrides(flags.overrides)
    if place is not None and flags.cfg is None:
        return _joined(job, flags, place)
    continued = continuation(command.name, flags.overrides)
    if continued is not None:
        flags.overrides, flags.multirun = list(continued.overrides), True
    accepted = _accepted(job, flags, continued)
    if flags.cfg is not None:
        return _hydra(command, flags, accepted.overrides, job)
    registry.require_installed(accepted.settings)
    sweep = flags.multirun or accepted.hydra.mode == RunMode.MULTIRUN
    if sweep:
        from idl_cli.sweeps.run_sweep import run_sweep

        return run_sweep(
            accepted,
            lambda overrides: _hydra(command, flags, overrides, job),
            request=tuple(flags.overrides),
            continued=continued,
        )
    refuse_missing_devices(accepted)
    _, telling_hydra = claim(accepted, sweep=False)
    return _single(command, flags, (*accepted.overrides, *telling_hydra), job)


def _accepted(job: Job, flags: argparse.Namespace, continued: Continuation | None) -> Accepted:
    """The request checked; a mistake may be in what the sweep that goes on was asked for."""
    request = replace(_request(job, flags), to_run=flags.cfg is None)
    if continued is not None and continued.plan.finish:
        for added in continued.plan.added:
            preflight(replace(request, overrides=added))
    try:
        return preflight(request)
    except ConfigError as error:
        if continued is None or not continued.new_values:
            raise
        raise ConfigError([*error.problems, continued.recorded_request]) from error


def _joined(job: Job, flags: argparse.Namespace, place: Launched) -> int:
    """Run the job as a rank of the group that torchrun has started."""
    from idl_cli.jobs.torchrun import refuse_alone, run_joined, sweep_refusal

    command = job.command

    def accept() -> Accepted:
        if flags.multirun or continuation(command.name, flags.overrides) is not None:
            raise sweep_refusal(command.name)
        # The other ranks may be on machines that do not see each other's files.
        accepted = preflight(replace(_request(job, flags), to_run=not place.rank))
        refuse_alone(accepted, place.size)
        return accepted

    return run_joined(
        command,
        place,
        accept,
        lambda overrides, task: _single(command, flags, overrides, task),
        job.run_in,
    )


def _single(
    command: Command, flags: argparse.Namespace, overrides: Sequence[str], task: Task
) -> int:
    """Run one job; its error goes past Hydra, which would announce it in its own words."""
    errors: list[IdlError] = []

    @functools.wraps(task)
    def keeping_error(config: DictConfig) -> float | None:
        try:
            return task(config)
        except IdlError as error:
            errors.append(error)
            return None

    status = _hydra(command, flags, overrides, keeping_error)
    if errors:
        raise errors[0]
    return status


def _parse(name: str, arguments: Sequence[str]) -> argparse.Namespace:
    parser = get_args_parser()
    parser.prog = f"idl {name}"
    flags = parser.parse_intermixed_args(list(arguments))
    if flags.experimental_rerun is not None:
        raise ConfigError(["--experimental-rerun unpickles a file: idl does not offer it"])
    if flags.config_dir is not None and not Path(flags.config_dir).is_dir():
        raise ConfigError([f"--config-dir {flags.config_dir}: there is no such directory"])
    if flags.resolve and not (flags.cfg or flags.help):
        raise ConfigError(["--resolve: is for --cfg and --help"])
    if bool(flags.cfg) + flags.run + flags.multirun + bool(flags.info) > 1:
        raise ConfigError(["give only one of --cfg, --info, --run and --multirun"])
    flags.overrides = [with_home(text) for text in flags.overrides]
    return flags


def _asks_only(flags: argparse.Namespace) -> bool:
    """Whether nothing is composed for a run: help, information, shell completion."""
    return bool(flags.help or flags.hydra_help or flags.shell_completion or flags.info)


def _request(job: Job, flags: argparse.Namespace) -> Request:
    search_path = [] if flags.config_dir is None else [Path(flags.config_dir).resolve()]
    return Request(
        command=job.command,
        commands=job.commands,
        overrides=tuple(flags.overrides),
        multirun=flags.multirun,
        root=flags.config_name or job.command.name,
        directory=None if flags.config_path is None else Path(flags.config_path).resolve(),
        search_path=tuple(search_path),
    )


def _hydra(
    command: Command, flags: argparse.Namespace, overrides: Sequence[str], task: Task
) -> int:
    store_root(command)
    version = {} if VERSION_BASE is None else {"version_base": VERSION_BASE}
    launch = hydra.main(config_path=str(config_directory()), config_name=command.name, **version)(
        task
    )
    with _as_arguments(_flag_words(flags), overrides), environment_variables(_RAW_ERRORS):
        return _status(launch, [text for text in flags.overrides if is_of_hydra(text)])


def _status(launch: Callable[[], object], of_hydra: Sequence[str]) -> int:
    try:
        launch()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except IdlError:
        raise
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError([str(error)]) from error
    except Exception as error:  # of values that it does not check; a job's errors are ours
        if not of_hydra or isinstance(error, OSError):
            raise
        raise ConfigError(
            [f"{' '.join(of_hydra)}: Hydra cannot take it ({unforeseen(error)})"]
        ) from error
    return 0


def _flag_words(flags: argparse.Namespace) -> Iterator[str]:
    """The flags as Hydra's parser reads them, now all in front of the overrides."""
    given = vars(flags)
    for flag in _FLAGS:
        value = given[flag]
        if value is True:
            yield f"--{flag.replace('_', '-')}"
        elif value:
            yield from (f"--{flag}", value)
    for flag in ("config_path", "config_dir"):
        if given[flag] is not None:
            yield from (f"--{flag.replace('_', '-')}", str(Path(given[flag]).resolve()))
    if given["config_name"] is not None:
        yield from ("--config-name", given["config_name"])
    if given["info"] is not None:
        yield f"--info={given['info']}"


@contextmanager
def _as_arguments(flags: Iterator[str], overrides: Sequence[str]) -> Iterator[None]:
    """Let Hydra, which reads ``sys.argv``, see these arguments alone."""
    before = sys.argv
    sys.argv = [before[0], *flags, *overrides]
    try:
        yield
    finally:
        sys.argv = before
