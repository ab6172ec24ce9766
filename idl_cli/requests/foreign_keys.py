"""Keys that a request has not, but another option, another command or Hydra's own part has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from idl_cli import registry
from idl_cli.config.check import key_hints
from idl_cli.config.unknown_keys import nearest_path
from idl_cli.requests.compose import compose
from idl_cli.requests.request import Request
from idl_cli.requests.specification import Command, Commands

_MOST_OPTIONS = 4


def owner_of_key(command: Command, commands: Commands, path: str) -> str | None:
    """Say which other option, or which other command, has a key; None where none does.

    Args:
        command: that was asked.
        commands: all that there are.
        path: the key, with the section it was typed in, which need not be its own.
    """
    parent, _, leaf = path.rpartition(".")
    for group in _ordered(command.sections, parent):
        if group == "trainer":  # fixed: its other options are other commands
            continue
        found = _options_with(group, leaf)
        if found:
            key = next(iter(found.values()))
            options = ", ".join(list(found)[:_MOST_OPTIONS])
            return f"{key} is a key of {group}={options}"
    for other in commands.values():
        if other.trainer is None or other.trainer == command.trainer:
            continue
        found = _options_with("trainer", leaf, only=other.trainer)
        if found:
            return f"{found[other.trainer]} is a key of `idl {other.name}`"
    return None


def _ordered(groups: tuple[str, ...], parent: str) -> Iterator[str]:
    """The groups, that of the section typed first."""
    own = parent.partition(".")[0]
    yield from sorted(groups, key=lambda group: group != own)


def _options_with(group: str, leaf: str, only: str | None = None) -> dict[str, str]:
    """The built-in options of a group that have a key of this last name, and the whole key."""
    found = {}
    for name, schema in registry.built_in_schemas(group).items():
        if only is not None and name != only:
            continue
        keys = key_hints(schema, registry.schema_of, {"name": name})
        own = [key for key in keys if key.rpartition(".")[2] == leaf]
        if own:
            found[name] = f"{group}.{own[0]}"
    return found


def close_hydra_key(line: str, request: Request) -> str | None:
    """The key of Hydra's own part that is spelt like that of an override; None without one.

    Args:
        line: the override.
        request: that it is part of, with the launcher and sweeper chosen; its composition is open.
    """
    key = line.lstrip("+~").partition("=")[0]
    if not key.startswith("hydra."):
        return None
    choices = [text for text in request.overrides if text.startswith("hydra/")]
    try:
        _, hydra = compose(request.root, choices, request.search_path)
    except (HydraException, OmegaConfBaseException):
        return None
    keys = list(_dotted(OmegaConf.to_container(hydra, resolve=False), "hydra"))
    return None if key in keys else nearest_path(key, keys)


def _dotted(section: object, path: str) -> Iterator[str]:
    if not isinstance(section, Mapping):
        yield path
        return
    for key, value in section.items():
        yield from _dotted(value, f"{path}.{key}")
