"""Find every mistake of a request before Hydra makes a directory or a job imports torch.

The overrides are parsed with Hydra's own parser and composed with Hydra's own composition; wrong
group choices are set aside so that the rest can still be looked at, unknown keys are let in so
that the schemas can name the nearest valid one. What a sweep would run is looked at value by value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from idl_cli import registry
from idl_cli.config.check import check
from idl_cli.config.existing import paths_that_lead_nowhere
from idl_cli.errors import ConfigError
from idl_cli.requests.compose import compose, composer, plain
from idl_cli.requests.foreign_keys import close_hydra_key, owner_of_key
from idl_cli.requests.mistakes import (
    missing_extra,
    missing_option,
    mistakes,
    wrong_trainer,
)
from idl_cli.requests.overrides import key_of, pinned, value_texts, written
from idl_cli.requests.parsing import parsed
from idl_cli.requests.request import Accepted
from idl_cli.requests.request import Request as Request
from idl_cli.requests.specification import Command, Commands, command_for_trainer


def preflight(request: Request) -> Accepted:
    """Check a request completely.

    Raises:
        ConfigError: with every mistake found.
    """
    directory = request.directory
    with composer(request.command, directory):
        overrides, problems = parsed(request)
        accepted, found = _first_job(request, overrides)
        problems += found
        if not problems and request.multirun:
            problems += _other_jobs(request, overrides)
        if accepted is not None and not problems:
            problems += _wrong_sweeps(overrides, accepted.hydra)
            problems += _wrong_record(accepted.hydra)
            accepted, found = _with_preset_sweep(request, accepted, overrides)
            problems += found
    if problems:
        raise ConfigError(_without_false(problems, request))
    assert accepted is not None
    return accepted


def _without_false(problems: Sequence[str], request: Request) -> list[str]:
    """The problems, each once; a key whose value could not be taken is not missing besides."""
    refused = {
        key_of(text)
        for text in request.overrides
        if any(problem.startswith(f"{text}:") for problem in problems)
    }
    false = tuple(f"{key}: missing" for key in refused)
    return [problem for problem in dict.fromkeys(problems) if not problem.startswith(false)]


def checked_settings(config: DictConfig, command: Command, commands: Commands) -> dict[str, Any]:
    """The plain, complete settings of a composed configuration.

    Args:
        config: composed.
        command: that it is of.
        commands: all that there are, which a key or trainer may belong to.

    Raises:
        ConfigError: with every mistake found.
    """
    values = plain(config)
    chosen = values.get("trainer")
    if command.trainer and isinstance(chosen, Mapping):
        name = chosen.get("name")
        owner = command_for_trainer(name, commands) if isinstance(name, str) else None
        if isinstance(name, str) and name != command.trainer and owner:
            raise ConfigError([wrong_trainer(command, name, owner)])
    elsewhere = partial(owner_of_key, command, commands)
    return check(command.schema, values, registry.schema_of, elsewhere)


def _requested(request: Request, config: DictConfig) -> dict[str, Any]:
    """The checked settings of a job; where it is to run, what it reads must be there."""
    schema = request.command.schema
    settings = checked_settings(config, request.command, request.commands)
    if request.to_run:
        problems = list(paths_that_lead_nowhere(schema, settings, registry.schema_of))
        if problems:
            raise ConfigError(problems)
    return settings


def composed(request: Request) -> tuple[DictConfig, DictConfig]:
    """Compose the (first) job for somebody who only looks: values may be missing or wrong.

    Returns:
        The configuration, and Hydra's own part of it.

    Raises:
        ConfigError: the overrides make no configuration.
    """
    with composer(request.command, request.directory):
        overrides, problems = parsed(replace(request, multirun=True))
        lines = [pinned(override, force=True) for override in overrides]
        try:
            if not problems:
                return compose(request.root, lines, request.search_path)
        except (HydraException, OmegaConfBaseException) as error:
            problems = _culprits(request, lines, error)
    raise ConfigError(list(dict.fromkeys(problems)))


# -- composing -----------------------------------------------------------------------------------


def _first_job(
    request: Request, overrides: Sequence[Override]
) -> tuple[Accepted | None, list[str]]:
    """Compose and check the job made of the first value of every sweep."""
    lines = [pinned(override) for override in overrides]
    try:
        config, hydra = compose(request.root, lines, request.search_path)
        forced = False
    except (HydraException, OmegaConfBaseException):
        lines = [pinned(override, force=True) for override in overrides]
        try:
            config, hydra = compose(request.root, lines, request.search_path)
            forced = True
        except (HydraException, OmegaConfBaseException) as error:
            return None, _culprits(request, lines, error)
    try:
        settings = _requested(request, config)
    except ConfigError as error:
        return None, list(error.problems)
    handed_on = tuple(written(override, force=forced) for override in overrides)
    return Accepted(handed_on, hydra, settings, request), []


def _culprits(request: Request, lines: Sequence[str], error: Exception) -> list[str]:
    """Which overrides a composition fails on, each with Hydra's reason.

    Keys are looked at beside the choices of options, which bring some of them.
    """
    groups = request.command.groups
    choices = [line for line in lines if "/" in key_of(line) or key_of(line) in groups]
    reasons: dict[str, str] = {}
    for line in (*choices, *(each for each in lines if each not in choices)):
        beside = [] if line in choices else [each for each in choices if each not in reasons]
        try:
            compose(request.root, [*beside, line], request.search_path)
        except (HydraException, OmegaConfBaseException) as reason:
            close = close_hydra_key(line, request)
            said = f"no such key; did you mean {close}?" if close else _first_line(reason, request)
            reasons[line] = f"{line.lstrip('+')}: {said}"
    return list(reasons.values()) or [_first_line(error, request)]


def _first_line(error: Exception, request: Request) -> str:
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.removesuffix(".yaml").rpartition("/")
        sentence = missing_extra(f"{group}={option}") or missing_option(group, option, request)
        if sentence is not None:
            return sentence
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3])


def _other_jobs(request: Request, overrides: Sequence[Override]) -> list[str]:
    """Check every further value of every sweep, the other sweeps at their first value."""
    problems: list[str] = []
    for index, override in enumerate(overrides):
        if override.is_hydra_override() or not override.is_sweep_override():
            continue
        for value in list(value_texts(override))[1:]:
            lines = [pinned(each, force=True) for each in overrides]
            lines[index] = written(override, force=True, value=value)
            try:
                config, _ = compose(request.root, lines, request.search_path)
                _requested(request, config)
            except ConfigError as error:
                problems += error.problems
            except (HydraException, OmegaConfBaseException) as error:
                problems.append(f"{override.key_or_group}={value}: {_first_line(error, request)}")
    return problems


def _wrong_sweeps(overrides: Sequence[Override], hydra: DictConfig) -> list[str]:
    """Intervals that the chosen sweeper cannot take: a grid needs single values."""
    if not str(hydra.sweeper._target_).endswith(".BasicSweeper"):
        return []
    return [
        f"{override.input_line}: an interval has no single values for a grid; list some, or let "
        "a study choose them (hydra/sweeper=optuna)"
        for override in overrides
        if override.is_interval_sweep()
    ]


def _wrong_record(hydra: DictConfig) -> list[str]:
    """What Hydra is to write of a request: nothing with passwords and tokens, a log of a kind."""
    verbose = hydra.verbose
    if not isinstance(verbose, bool | str) and not OmegaConf.is_list(verbose):
        return [f"hydra.verbose={verbose}: must be true, false, or names of loggers"]
    if hydra.output_subdir is None:
        return []
    return [
        f"hydra.output_subdir={hydra.output_subdir}: the request is kept in .hydra/ of the run, "
        "without passwords and tokens, and nowhere else; leave it out"
    ]


def _with_preset_sweep(
    request: Request, accepted: Accepted, overrides: Sequence[Override]
) -> tuple[Accepted, list[str]]:
    """Check what a preset sweeps over (``hydra.sweeper.params``), value by value.

    A key that the user gives too is taken out of the preset's sweep: Hydra would run every one of
    the preset's values and set each of them aside.
    """
    swept = accepted.hydra.sweeper.get("params") or {}
    if not (request.multirun or accepted.hydra.mode == RunMode.MULTIRUN):
        return accepted, []
    given = {override.key_or_group for override in overrides}
    problems: list[str] = []
    dropped: list[str] = []
    parser = OverridesParser.create()
    for key, values in swept.items():
        if key in given:
            dropped.append(f"~hydra.sweeper.params.{key}")
            continue
        try:
            override = parser.parse_override(f"{key}={values}")
        except (HydraException, ValueError) as error:
            problems.append(f"hydra.sweeper.params.{key}={values}: {_first_line(error, request)}")
            continue
        found = list(mistakes(override, request))
        problems += found
        problems += _wrong_sweeps([override], accepted.hydra)
        if not found and override.is_sweep_override():
            first = pinned(override)
            others = _other_jobs(request, [override, *overrides])
            others += _first_job(request, [parser.parse_override(first), *overrides])[1]
            problems += others
    return replace(accepted, overrides=(*accepted.overrides, *dropped)), problems
