"""Shell completion: the script for bash and zsh, and what to offer for a half-typed line.

``idl -sc install=bash`` prints the script; the shell then asks ``idl -sc query=bash`` at every tab,
with the line in ``COMP_LINE`` and the cursor in ``COMP_POINT``. The answer comes from file names
and schemas alone, so it takes a tenth of a second: neither Hydra nor torch is imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from idl_cli import registry
from idl_cli.config.check import key_hints
from idl_cli.config.describe import shown
from idl_cli.config.fields import Pattern
from idl_cli.config.options import (
    component_in,
    config_directory,
    defaults_in,
    option_files,
)
from idl_cli.errors import RequestError
from idl_cli.requests.specification import SWEEP_GROUPS, Command

_HYDRA_FLAGS: Final = (
    "--help ",
    "--cfg ",
    "--config-dir ",
    "--config-name ",
    "--info ",
    "--multirun ",
    "--package ",
    "--resolve ",
    "--hydra-help ",
)
_OWN_FLAGS: Final = ("--help ", "--version ")
_HYDRA_KEYS: Final = ("hydra.run.dir", "hydra.sweep.dir")
_PATH_KEYS: Final = (
    "run",
    "input",
    "output",
    "resume",
    "root",
    "file",
    "target",
    "init_run",
    "dir",
)
"""Last parts of keys whose value is a path."""

_SCRIPT: Final = r"""
_idl_complete() {
    local IFS=$'\n' word="${COMP_LINE:0:$COMP_POINT}" held=""
    word="${word##*[[:space:]]}"
    # Where the shell ends words at = and :, its present word begins behind the last of them.
    [[ "$COMP_WORDBREAKS" == *=* && "$word" == *=* ]] && held="${word%"${word##*=}"}"
    [[ "$COMP_WORDBREAKS" == *:* && "$word" == *:* ]] && held="${word%"${word##*:}"}"
    COMPREPLY=($(COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" idl -sc query=bash 2>/dev/null))
    COMPREPLY=("${COMPREPLY[@]#"$held"}")
}
complete -o nospace -F _idl_complete idl
"""
_INSTALL: Final[Mapping[str, str]] = MappingProxyType(
    {
        "bash": _SCRIPT.lstrip(),
        "zsh": "autoload -Uz bashcompinit && bashcompinit\n" + _SCRIPT.lstrip(),
    }
)
_UNINSTALL: Final = "complete -r idl; unset -f _idl_complete\n"


def main(
    words: Sequence[str], sub_commands: Collection[str], module_of: Callable[[str], Any]
) -> int:
    """Answer ``idl [COMMAND] -sc install=SHELL | uninstall=SHELL | query=SHELL``.

    Args:
        words: what follows ``idl``.
        sub_commands: names of the sub-commands.
        module_of: imports one of them.
    """
    request = next((word for word in words if "=" in word), "")
    action, _, shell = request.partition("=")
    if action not in ("install", "uninstall", "query") or shell not in _INSTALL:
        raise RequestError(
            f"-sc {request}: give install=bash or install=zsh (uninstall= takes it back)"
        )
    if action == "install":
        sys.stdout.write(_INSTALL[shell])
    elif action == "uninstall":
        sys.stdout.write(_UNINSTALL)
    else:
        line = os.environ.get("COMP_LINE", "")
        point = os.environ.get("COMP_POINT", "")
        typed = line[: int(point)] if point.isdigit() else line
        sys.stdout.writelines(f"{each}\n" for each in candidates(typed, sub_commands, module_of))
    return 0


def candidates(
    line: str, sub_commands: Collection[str], module_of: Callable[[str], Any]
) -> list[str]:
    """What the last word of ``line`` can become, whole words.

    A candidate that is complete ends with a space; one that goes on (``model=``, ``trainer.``)
    does not.
    """
    words = line.split()[1:]
    current = "" if not words or line[-1].isspace() else words.pop()
    offers: Iterable[str] = ()
    if not words:
        offers = [*(f"{name} " for name in sub_commands), *_OWN_FLAGS]
    elif words[0] in sub_commands:
        offers = _offers(module_of(words[0]), words[1:], current)
    return sorted({each for each in offers if each.startswith(current)})


def _offers(module: Any, rest: Sequence[str], current: str) -> Iterable[str]:
    if hasattr(module, "COMMAND"):
        return _hydra_offers(module.COMMAND, rest, current)
    completions = getattr(module, "completions", None)
    return () if completions is None else completions(rest, current)


def _hydra_offers(command: Command, words: Sequence[str], current: str) -> Iterator[str]:
    before = words[-1] if words else ""
    if before in ("--cfg", "-c"):
        yield from ("job ", "hydra ", "all ")
    elif before in ("--info", "-i"):
        yield from ("all ", "config ", "defaults ", "defaults-tree ", "plugins ", "searchpath ")
    elif before in ("--config-dir", "-cd"):
        yield from paths(current)
    elif current.startswith("-"):
        yield from _HYDRA_FLAGS
    elif "=" in current:
        yield from _values(command, words, current)
    else:
        yield from _keys(command, words, current)


def _directories(words: Sequence[str]) -> list[Path]:
    added = [words[i + 1] for i, w in enumerate(words[:-1]) if w in ("--config-dir", "-cd")]
    return [config_directory(), *(Path(each).expanduser() for each in added)]


def _options(group: str, directories: Sequence[Path]) -> list[str]:
    components = registry.names(group) if group in registry.groups() else ()
    return list(dict.fromkeys((*option_files(group, directories), *components)))


def _keys(command: Command, words: Sequence[str], current: str) -> Iterator[str]:
    """Groups and keys, one level at a time so that a long list does not drown the short one."""
    directories = _directories(words)
    plus = current[: len(current) - len(current.lstrip("+~"))]
    inside = current[len(plus) :].rpartition(".")[0]
    prefix = f"{inside}." if inside else ""
    if not inside:
        groups = command.groups
        yield from (f"{plus}{group}=" for group in groups if _options(group, directories))
        yield from (f"{key}=" for key in SWEEP_GROUPS)
    yield from (f"{key}=" for key in _HYDRA_KEYS)
    hints = _hints(command, words, directories)
    for key in hints:
        if not key.startswith(prefix) or key.endswith(".name"):
            continue
        own = key[len(prefix) :].partition(".")[0]
        has_more = any(
            other.startswith(f"{prefix}{own}.") and not other.endswith(".name") for other in hints
        )
        if has_more:
            yield f"{plus}{prefix}{own}."
            if _is_a_value_too(hints.get(f"{prefix}{own}")):
                yield f"{plus}{prefix}{own}="
        elif inside or own not in command.sections:
            yield f"{plus}{prefix}{own}="


def _is_a_value_too(hint: Any) -> bool:
    """Whether a section may be given as one value, as ``trainer.path`` may be a list."""
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else ()
    return any(not is_dataclass(part) and part is not NoneType for part in parts)


def _values(command: Command, words: Sequence[str], current: str) -> Iterator[str]:
    """Options of a group, choices of a key, paths."""
    name, _, typed = current.partition("=")
    key = name.lstrip("+~")
    done, comma, _ = typed.rpartition(",")  # a sweep: model=implicit,rnn
    prefix = f"{name}={done}{comma}"
    directories = _directories(words)
    if key in command.groups:
        yield from (f"{prefix}{option} " for option in _options(key, directories))
    elif key in SWEEP_GROUPS:
        yield from (f"{name}={option} " for option in SWEEP_GROUPS[key])
    elif key.rpartition(".")[2] in _PATH_KEYS:
        yield from (f"{name}={each}" for each in paths(typed))
    else:
        choices = _choices(_hints(command, words, directories).get(key))
        yield from (f"{prefix}{choice} " for choice in choices)


def _hints(command: Command, words: Sequence[str], directories: Sequence[Path]) -> dict[str, Any]:
    """The keys of the command, given the options that the line has chosen so far."""
    root = config_directory() / f"{command.name}.yaml"
    chosen = defaults_in(root) if root.exists() else {}
    for word in words:
        key, equals, value = word.lstrip("+").partition("=")
        if equals:
            chosen[key] = value
    sections = {}
    for group in command.sections:
        option = chosen.get(group, "null").partition(",")[0]
        file = option_files(group, directories).get(option)
        component = (component_in(file) if file else None) or option
        if component in registry.names(group):
            sections[group] = {"name": component}
    return key_hints(command.schema, registry.schema_of, sections)


def _choices(hint: Any) -> Iterator[str]:
    if get_origin(hint) is Literal:
        yield from map(shown, get_args(hint))
    elif get_origin(hint) is Annotated:
        for part in (hint.__origin__, *hint.__metadata__):
            yield from _choices(part)
    elif isinstance(hint, Pattern):
        yield from hint.examples
    elif hint is bool:
        yield from ("true", "false")
    elif hint is NoneType:
        yield "null"
    else:
        for part in get_args(hint):
            yield from _choices(part)


def paths(typed: str) -> Iterator[str]:
    """Files and directories; a directory's name ends with a slash and goes on."""
    folder, slash, _ = typed.rpartition("/")
    try:
        entries = list(os.scandir(os.path.expanduser(folder + slash) or "."))
    except OSError:
        return
    for entry in entries:
        if not entry.name.startswith("."):
            yield f"{folder}{slash}{entry.name}{'/' if entry.is_dir() else ' '}"
