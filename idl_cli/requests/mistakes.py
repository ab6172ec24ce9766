"""What is wrong with one override on its own: only choices of options can be judged so early."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Final

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from idl_cli import registry
from idl_cli.config.describe import did_you_mean, shown
from idl_cli.config.options import option_files, overridden_groups
from idl_cli.requests.request import Request
from idl_cli.requests.specification import (
    Command,
    command_for_trainer,
    commands_with,
)

_EXTRAS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "hydra/launcher=joblib": ("joblib", "hydra_joblib_launcher"),
        "hydra/launcher=submitit_local": ("submitit", "hydra_submitit_launcher"),
        "hydra/launcher=submitit_slurm": ("submitit", "hydra_submitit_launcher"),
        "hydra/sweeper=optuna": ("optuna", "hydra_optuna_sweeper"),
    }
)
"""Choice → the extra that brings it, the package in ``hydra_plugins`` that holds it."""

# What the Optuna plug-in (2.10) can use: its SQLite storage breaks with the next major versions.
_STUDY_STORAGE: Final = MappingProxyType({"sqlalchemy": (2, 0), "alembic": (1, 16)})


def mistakes(override: Override, request: Request) -> Iterator[str]:
    """What is wrong with one override on its own: only groups can be judged without composing.

    Args:
        override: parsed.
        request: that it is part of; its composition is open.

    Yields:
        A sentence a mistake.
    """
    command, key = request.command, override.key_or_group
    if override.is_hydra_override():
        yield from _hydra_mistakes(override)
        return
    group = key.partition(".")[0]
    if group in command.elsewhere and group not in command.groups:
        yield f"{override.input_line}: {command.elsewhere.get(key, command.elsewhere[group])}"
        return
    if key not in command.groups:
        return
    if override.is_delete():
        if key in command.sections:
            yield f"{override.input_line}: `idl {command.name}` needs a {key}; choose another one"
        return
    options = _options(key, request)
    for choice in _choices(override):
        yield from _wrong_choice(key, choice, options, request)
        if choice is None and override.is_sweep_override() and key not in command.sections:
            yield (
                f"{override.input_line}: null, no {key} at all, cannot be one value of a sweep; "
                "run it on its own"
            )


def unreadable(text: str, error: Exception, request: Request) -> str:
    """The sentence for an argument that is no override.

    Args:
        text: as typed.
        error: what Hydra's parser says of it.
        request: that it is part of.
    """
    if "=" not in text:
        groups = [group for group in request.command.groups if text in _options(group, request)]
        meant = " or ".join(f"{group}={text}" for group in groups)
        return f"{text}: is no KEY=VALUE and no GROUP=OPTION" + (
            f"; did you mean {meant}?" if meant else ""
        )
    if not isinstance(error, HydraException):
        return f"{shown(text)}: a number of so many digits is not read; write it as 1e9"
    reason = str(error).partition("\n")[0].partition(" expecting ")[0]
    return (
        f"{text}: cannot be read as KEY=VALUE or GROUP=OPTION: {reason}; a value with quotes, "
        "brackets or signs of its own is written in quotes, and the whole in quotes of the "
        "shell's: 'KEY=\"VALUE\"'"
    )


def _hydra_mistakes(override: Override) -> Iterator[str]:
    """What is wrong with an override of Hydra's own part: extras, jobs in other directories."""
    if override.is_delete() or override.is_sweep_override():
        return
    sentence = missing_extra(f"{override.key_or_group}={override.value()}")
    if sentence is not None:
        yield sentence
    elif "/" in override.key_or_group:
        yield from _wrong_hydra_choice(override.key_or_group, override.value())
    if override.key_or_group == "hydra.sweep.subdir":
        yield (
            f"{override.input_line}: a sweep's jobs are in directories named by their numbers, "
            "where its table and sweep.resume find them; leave it out"
        )


def _wrong_hydra_choice(group: str, choice: object) -> Iterator[str]:
    options = GlobalHydra.instance().config_loader().get_group_options(group)
    if options and choice not in options:
        yield _no_such_option(group, choice, options)


def missing_option(group: str, option: str, request: Request) -> str | None:
    """The sentence for an option that a preset chooses and a group of the command lacks.

    Args:
        group: a config group, of the command or not.
        option: of it, as the preset names it.
        request: that the preset is part of; its composition is open.
    """
    if group not in request.command.groups:
        return None
    options = _options(group, request)
    return None if option in options else _no_such_option(group, option, options)


def _no_such_option(group: str, choice: object, options: Iterable[str]) -> str:
    listed = list(options)
    return (
        f"{group}={shown(choice)}: no such option; choose from {_listed(listed)}"
        f"{did_you_mean(choice, listed)}"
    )


def _wrong_choice(
    group: str, choice: object, options: Mapping[str, Path | None], request: Request
) -> Iterator[str]:
    command = request.command
    if choice is None:
        if group not in command.optional_groups:
            yield f"{group}=null: a {group} is needed; choose from {_listed(options)}"
    elif not isinstance(choice, str):
        yield (
            f"{group}={choice}: a group takes the name of one option; "
            f"values are given key by key, {group}.KEY=VALUE"
        )
    elif (
        group == "trainer"
        and choice != command.trainer
        and (owner := command_for_trainer(choice, request.commands))
    ):
        yield wrong_trainer(command, choice, owner)
    elif choice.removesuffix(".yaml") not in options:
        yield _no_such_option(group, choice, options)
    elif group == "experiment":
        file = options[choice.removesuffix(".yaml")]
        sentence = None if file is None else preset_of_others(choice, file, request)
        if sentence is not None:
            yield sentence


def _listed(options: Iterable[str]) -> str:
    return ", ".join(options) or "(none is installed)"


def _options(group: str, request: Request) -> dict[str, Path | None]:
    """The options of a group and their files; a plug-in needs none."""
    options: dict[str, Path | None] = dict(option_files(group, request.directories))
    if group in registry.groups():
        options.update({name: None for name in registry.names(group) if name not in options})
    return options


def _choices(override: Override) -> list[object]:
    if override.is_discrete_sweep():
        try:
            return list(override.sweep_iterator())
        except HydraException:  # glob(...): Hydra matches it against the options by itself
            return []
    return [override.value()]


def wrong_trainer(command: Command, name: str, owner: str) -> str:
    """The sentence for a trainer that another command, its owner, fixes."""
    return (
        f"trainer={name}: `idl {command.name}` always trains with trainer={command.trainer}; "
        f"use `idl {owner}`"
    )


def preset_of_others(preset: str, file: Path, request: Request) -> str | None:
    """Say which commands a preset is for; None where it is for this one, or for none at all.

    Args:
        preset: its name.
        file: its YAML, whose choices of options tell.
        request: that it is part of.
    """
    command, needed = request.command, overridden_groups(file)
    missing = [group for group in needed if group not in command.sections]
    owners = commands_with(needed, request.commands) if missing else []
    if not owners:
        return None
    use = " or ".join(f"`idl {owner} experiment={preset}`" for owner in owners)
    chosen = " and ".join(filter(None, (", ".join(missing[:-1]), missing[-1])))
    refused = f"chooses {chosen}, which `idl {command.name}` does not take"
    return f"experiment={preset}: {refused}; use {use}"


def missing_extra(choice: str) -> str | None:
    """Say what to install for ``GROUP=OPTION``; None where nothing is missing."""
    if choice not in _EXTRAS:
        return None
    extra, package = _EXTRAS[choice]
    install = f"pip install 'idl-cli[{extra}]'"
    if find_spec("hydra_plugins") is None or find_spec(f"hydra_plugins.{package}") is None:
        return f"{choice}: an extra is not installed; {install}"
    if extra == "optuna":
        for name, limit in _STUDY_STORAGE.items():
            version = metadata.version(name)
            if tuple(map(int, version.split(".")[:2])) >= limit:
                below = ".".join(map(str, limit))
                return f"{choice}: needs {name} < {below}, {version} is installed; {install}"
    return None
