"""Find every mistake of a request before Hydra makes a directory or a job imports torch.

The overrides are parsed with Hydra's own parser and composed with Hydra's own composition; wrong
group choices are set aside so that the rest can still be looked at, unknown keys are let in so
that the schemas can name the nearest valid one. What a sweep would run is looked at value by value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from idl_cli import registry
from idl_cli.commands.compose import compose, composer, plain
from idl_cli.commands.plug_ins import missing_extra
from idl_cli.commands.specification import COMMANDS, Command, command_for_trainer
from idl_cli.config.check import check
from idl_cli.config.describe import did_you_mean
from idl_cli.config.options import OVERLAYS, config_directory, option_files
from idl_cli.errors import ConfigError


@dataclass(frozen=True)
class Request:
    """What the user asked of one command.

    Attributes:
        command: the command.
        overrides: the arguments that are no flags.
        multirun: whether lists of values make one job each.
        root: name of the primary configuration.
        directory: where it lies, None for the project's own.
        search_path: further directories with options.
    """

    command: Command
    overrides: tuple[str, ...]
    multirun: bool = False
    root: str = ""
    directory: Path | None = None
    search_path: tuple[Path, ...] = ()

    @property
    def directories(self) -> tuple[Path, ...]:
        """Where option files may lie, the first to win."""
        return (self.directory or config_directory(), *self.search_path)


@dataclass(frozen=True)
class Accepted:
    """A request without mistakes.

    Attributes:
        overrides: what to hand to Hydra: the user's own, written so that Hydra takes them.
        hydra: Hydra's part of the (first job's) configuration.
        settings: the checked settings of the (first) job.
    """

    overrides: tuple[str, ...]
    hydra: DictConfig
    settings: dict[str, Any]


def preflight(request: Request) -> Accepted:
    """Check a request completely.

    Raises:
        ConfigError: with every mistake found.
    """
    directory = request.directory
    with composer(request.command.name, directory):
        overrides, problems = _sort_out(request)
        accepted, found = _first_job(request, overrides)
        problems += found
        if not problems and request.multirun:
            problems += _other_jobs(request, overrides)
        if accepted is not None and not problems:
            problems += _wrong_sweeps(overrides, accepted.hydra)
            accepted, found = _with_preset_sweep(request, accepted, overrides)
            problems += found
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    assert accepted is not None
    return accepted


def checked_settings(command: Command, config: DictConfig) -> dict[str, Any]:
    """The plain, complete settings of a composed configuration.

    Raises:
        ConfigError: with every mistake found.
    """
    values = plain(config)
    chosen = values.get("trainer")
    if command.trainer and isinstance(chosen, Mapping):
        name = chosen.get("name")
        if isinstance(name, str) and name != command.trainer and command_for_trainer(name):
            raise ConfigError([_wrong_trainer(command, name)])
    return check(command.schema, values, registry.schema_of)


def _wrong_trainer(command: Command, name: str) -> str:
    return (
        f"trainer={name}: `idl {command.name}` always trains with trainer={command.trainer}; "
        f"use `idl {command_for_trainer(name)}`"
    )


# -- the overrides, one by one -------------------------------------------------------------------


def _sort_out(request: Request) -> tuple[list[Override], list[str]]:
    """Parse the overrides; those that no composition could take become problems."""
    parser = OverridesParser.create()
    kept: list[Override] = []
    problems: list[str] = []
    for text in request.overrides:
        try:
            override = parser.parse_override(_without_needless_plus(text, request))
        except HydraException as error:
            reason = str(error.__cause__ or error).partition("\n")[0]
            problems.append(f"{text}: cannot be read as KEY=VALUE or GROUP=OPTION: {reason}")
            continue
        if override.is_sweep_override() and not request.multirun:
            problems.append(
                f"{text}: several values are a sweep; add -m to run one job a value, or write "
                f"{override.key_or_group}=[...] for one list"
            )
        if override.input_line in request.command.granted:
            continue
        found = list(_mistakes(override, request))
        problems += found
        if not found:
            kept.append(override)
    return kept, problems


def _without_needless_plus(text: str, request: Request) -> str:
    """``+experiment=x`` as ``experiment=x``: every group of the command is in its defaults."""
    bare = text.lstrip("+")
    return bare if bare.partition("=")[0] in _groups(request.command) else text


def _groups(command: Command) -> tuple[str, ...]:
    return (*command.sections, *OVERLAYS)


def _mistakes(override: Override, request: Request) -> Iterator[str]:
    """What is wrong with one override on its own: only groups can be judged without composing."""
    command, key = request.command, override.key_or_group
    if override.is_hydra_override():
        yield from _hydra_mistakes(override)
        return
    group = key.partition(".")[0]
    if group in command.elsewhere and group not in _groups(command):
        yield f"{override.input_line}: {command.elsewhere.get(key, command.elsewhere[group])}"
        return
    if key not in _groups(command):
        return
    if override.is_delete():
        if key in command.sections:
            yield f"{override.input_line}: `idl {command.name}` needs a {key}; choose another one"
        return
    options = _options(key, request)
    for choice in _choices(override):
        yield from _wrong_choice(key, choice, options, command)


def _hydra_mistakes(override: Override) -> Iterator[str]:
    """What is wrong with an override of Hydra's own part: extras, jobs in other directories."""
    if override.is_delete() or override.is_sweep_override():
        return
    sentence = missing_extra(f"{override.key_or_group}={override.value()}")
    if sentence is not None:
        yield sentence
    if override.key_or_group == "hydra.sweep.subdir":
        yield (
            f"{override.input_line}: a sweep's jobs are in directories named by their numbers, "
            "where its table and sweep.resume find them; leave it out"
        )


def _wrong_choice(
    group: str, choice: object, options: Sequence[str], command: Command
) -> Iterator[str]:
    if choice is None:
        if group in command.sections and command.name != "eval":
            yield f"{group}=null: a {group} is needed; choose from {_listed(options)}"
    elif not isinstance(choice, str):
        yield (
            f"{group}={choice}: a group takes the name of one option; "
            f"values are given key by key, {group}.KEY=VALUE"
        )
    elif group == "trainer" and choice != command.trainer and command_for_trainer(choice):
        yield _wrong_trainer(command, choice)
    elif choice.removesuffix(".yaml") not in options:
        yield (
            f"{group}={choice}: no such option; choose from {_listed(options)}"
            f"{did_you_mean(choice, options)}"
        )


def _listed(options: Sequence[str]) -> str:
    return ", ".join(options) or "(none is installed)"


def _options(group: str, request: Request) -> list[str]:
    options = list(option_files(group, request.directories))
    if group in registry.groups():
        options += [name for name in registry.plug_ins(group) if name not in options]
    return options


def _choices(override: Override) -> list[object]:
    if override.is_discrete_sweep():
        try:
            return list(override.sweep_iterator())
        except HydraException:  # glob(...): Hydra matches it against the options by itself
            return []
    return [override.value()]


# -- composing -----------------------------------------------------------------------------------


def _first_job(
    request: Request, overrides: Sequence[Override]
) -> tuple[Accepted | None, list[str]]:
    """Compose and check the job made of the first value of every sweep."""
    lines = [_pinned(override) for override in overrides]
    try:
        config, hydra = compose(request.root, lines, request.search_path)
        forced = False
    except (HydraException, OmegaConfBaseException):
        lines = [_pinned(override, force=True) for override in overrides]
        try:
            config, hydra = compose(request.root, lines, request.search_path)
            forced = True
        except (HydraException, OmegaConfBaseException) as error:
            return None, _culprits(request, lines, error)
    try:
        settings = checked_settings(request.command, config)
    except ConfigError as error:
        return None, list(error.problems)
    handed_on = tuple(_written(override, force=forced) for override in overrides)
    return Accepted(handed_on, hydra, settings), []


def _culprits(request: Request, lines: Sequence[str], error: Exception) -> list[str]:
    """Which overrides a composition fails on, each with Hydra's reason."""
    reasons = {}
    for line in lines:
        try:
            compose(request.root, [line], request.search_path)
        except (HydraException, OmegaConfBaseException) as reason:
            reasons[line] = f"{line.lstrip('+')}: {_first_line(reason)}"
    return list(reasons.values()) or [_first_line(error)]


def _first_line(error: Exception) -> str:
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.removesuffix(".yaml").rpartition("/")
        sentence = missing_extra(f"{group}={option}")
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
        for value in list(_value_texts(override))[1:]:
            lines = [_pinned(each, force=True) for each in overrides]
            lines[index] = _written(override, force=True, value=value)
            try:
                config, _ = compose(request.root, lines, request.search_path)
                checked_settings(request.command, config)
            except ConfigError as error:
                problems += error.problems
            except (HydraException, OmegaConfBaseException) as error:
                problems.append(f"{override.key_or_group}={value}: {_first_line(error)}")
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
        except HydraException as error:
            problems.append(f"hydra.sweeper.params.{key}={values}: {_first_line(error)}")
            continue
        found = list(_mistakes(override, request))
        problems += found
        problems += _wrong_sweeps([override], accepted.hydra)
        if not found and override.is_sweep_override():
            first = _pinned(override)
            others = _other_jobs(request, [override, *overrides])
            others += _first_job(request, [parser.parse_override(first), *overrides])[1]
            problems += others
    return replace(accepted, overrides=(*accepted.overrides, *dropped)), problems


def _value_texts(override: Override) -> Iterator[str]:
    if override.is_interval_sweep():
        interval = override.value()
        yield from (str(interval.start), str(interval.end))  # type: ignore[union-attr]
        return
    try:
        yield from (str(value) for value in override.sweep_string_iterator())
    except HydraException:  # glob(...)
        return


def _pinned(override: Override, *, force: bool = False) -> str:
    """The override as one job gets it: the first value of a sweep."""
    if not override.is_sweep_override():
        return _written(override, force=force)
    value = next(_value_texts(override), None)
    return _written(override, force=force, value=value)


def _written(override: Override, *, force: bool = False, value: str | None = None) -> str:
    """The override as text; ``force`` writes a plain ``KEY=VALUE`` so that any key is taken."""
    assert override.input_line is not None
    if override.is_delete():
        return override.input_line
    text = override.get_value_string() if value is None else value
    prefix = override.get_key_element()
    is_value = "/" not in prefix and not override.is_hydra_override()
    if force and is_value and override.key_or_group not in _every_group():
        prefix = "++" + prefix.lstrip("+")
    return f"{prefix}={text}"


def _every_group() -> frozenset[str]:
    named = (group for command in COMMANDS.values() for group in command.sections)
    return frozenset((*named, *OVERLAYS))
