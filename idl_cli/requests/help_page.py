"""``idl COMMAND --help``: options, keys with their values and meanings, flags.

The page is of the request it is asked with: ``idl train model=rnn --help`` shows the keys of rnn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Final

from omegaconf import DictConfig, OmegaConf

from idl_cli import registry
from idl_cli.config.check import MISSING_VALUE
from idl_cli.config.describe import shown
from idl_cli.config.keys import KeyFacts, comments_in, key_facts
from idl_cli.config.options import config_directory, option_files
from idl_cli.requests.mistakes import preset_of_others
from idl_cli.requests.preflight import composed
from idl_cli.requests.request import Request
from idl_cli.requests.specification import SWEEP_GROUPS, Command
from idl_cli.requests.two_columns import line_width, two_columns

FLAGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "-m, --multirun": "one job a value: KEY=V1,V2 or GROUP=A,B; several such make a grid",
        "-c, --cfg job": "print the configuration and run nothing; hydra and all show more",
        "--resolve": "with --cfg: with interpolations resolved",
        "-p, --package KEY": "with --cfg: a part of it only",
        "-cd, --config-dir DIR": "options of your own: DIR/GROUP/OPTION.yaml",
        "-cn, --config-name NAME": "another root configuration than the command's",
        "-cp, --config-path DIR": "where that lies",
        "-i, --info WHAT": "of Hydra: searchpath, defaults, defaults-tree, config, plugins or all",
        "--hydra-help": "Hydra's own help",
        "-h, --help": "this page, for the options given",
    }
)
"""The flags of every command whose request is a configuration."""


@dataclass(frozen=True)
class _Shown:
    """What is composed: the values of all keys, and the option chosen in each group."""

    values: Mapping[str, Any]
    choices: Mapping[str, str | None]


def help_page(request: Request, width: int | None = None) -> str:
    """The help of a command.

    Args:
        request: with the options and values to show it for.
        width: of a line; None for the terminal's, at most 110.

    Raises:
        ConfigError: the overrides make no configuration.
    """
    config, hydra = composed(request)
    present = _Shown(_plain(config), dict(hydra.runtime.choices))
    width = line_width() if width is None else width
    return "\n".join(_lines(request, present, width)) + "\n"


def _lines(request: Request, present: _Shown, width: int) -> Iterator[str]:
    command = request.command
    yield f"usage: idl {command.name} [GROUP=OPTION ...] [KEY=VALUE ...] [FLAG ...]"
    yield ""
    yield registry.summary_of(command.schema)
    yield ""
    yield "options, with what is chosen here (`idl list GROUP` says what each is):"
    yield from two_columns(_groups(request, present), width)
    yield ""
    yield "keys, with the values they have here:"
    yield from two_columns(_root_keys(request, present), width)
    for group in command.sections:
        chosen = _keys_of(group, present)
        if chosen:
            yield ""
            yield from two_columns(chosen, width)
    yield ""
    yield "flags:"
    yield from two_columns(FLAGS.items(), width)
    yield ""
    yield "examples:"
    yield from two_columns(_examples(command), width)


# -- what can be chosen --------------------------------------------------------------------------


def _groups(request: Request, present: _Shown) -> Iterator[tuple[str, str]]:
    command = request.command
    for group in command.groups:
        options = _options(request, group)
        if group == "trainer" and command.trainer:
            options = [command.trainer]
        if not options:
            continue
        chosen = present.choices.get(group)
        others = ", ".join(each for each in options if each != chosen)
        if chosen in (None, "null"):
            yield f"{group}=", f"none, or {others}"
        else:
            yield f"{group}={chosen}", f"or {others}" if others else "what the command is for"
    for group, known in SWEEP_GROUPS.items():
        chosen = present.choices.get(group)
        others = ", ".join(each for each in known if each != chosen)
        yield f"{group}={chosen}", f"with -m; or {others}"


def _options(request: Request, group: str) -> list[str]:
    """The options of a group that this command takes; presets of other commands are left out."""
    files = option_files(group, request.directories)
    if group == "local":
        return []
    if group == "experiment":
        return [name for name, file in files.items() if not preset_of_others(name, file, request)]
    components = registry.names(group) if group in registry.groups() else ()
    return list(dict.fromkeys((*files, *components)))


# -- what can be set -----------------------------------------------------------------------------


def _root_keys(request: Request, present: _Shown) -> list[tuple[str, str]]:
    command = request.command
    own = {item.name for item in fields(command.schema)} - set(command.sections)
    file = config_directory() / f"{command.name}.yaml"
    comments = comments_in(file) if file.exists() else {}
    places = {key: place for place, key in enumerate(comments)}
    facts = sorted(
        key_facts(command.schema, comments), key=lambda each: places.get(each.key, len(places))
    )
    return [_entry(each, present.values, "") for each in facts if each.key.split(".")[0] in own]


def _keys_of(group: str, present: _Shown) -> list[tuple[str, str]]:
    section = present.values.get(group)
    name = section.get("name") if isinstance(section, Mapping) else None
    if not isinstance(section, Mapping) or not isinstance(name, str):
        return []
    file = config_directory() / group / f"{name}.yaml"
    comments = comments_in(file) if file.exists() else {}
    facts = key_facts(registry.schema_of(group, name), comments)
    return [_entry(each, section, f"{group}.") for each in facts]


def _entry(facts: KeyFacts, values: Mapping[str, Any], prefix: str) -> tuple[str, str]:
    value = _value_at(facts.key, values, facts.default)
    meaning = facts.meaning or facts.allowed
    if value == MISSING_VALUE:
        return f"{prefix}{facts.key}=", f"needed: {meaning}"
    return f"{prefix}{facts.key}={shown(value, longest=None)}", meaning


def _value_at(key: str, values: Mapping[str, Any], default: object) -> object:
    """The value at a dotted key; the default where a file left it or its section out."""
    found: object = values
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return default
        found = found[part]
    return found


def _plain(config: DictConfig) -> Mapping[str, Any]:
    """The configuration as written: missing values and interpolations are shown, not resolved."""
    values = OmegaConf.to_container(config, resolve=False)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _examples(command: Command) -> Iterator[tuple[str, str]]:
    start = " ".join(filter(None, ("idl", command.name, command.example)))
    yield f"{start} --cfg job", "show the configuration, run nothing"
    yield f"{start} hydra.run.dir=OTHER", "leave what comes of it there"
    if command.trainer:
        yield f"{start} -m seed=0,1,2", "one run a value"
        yield f"{start} debug=fast", "the whole way on a few samples"
