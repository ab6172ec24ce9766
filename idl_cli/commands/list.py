"""``idl list [GROUP]``: what can be chosen, from file names and schemas alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from idl_cli import registry
from idl_cli.config.describe import did_you_mean
from idl_cli.config.options import (
    OVERLAYS,
    component_in,
    config_directory,
    option_files,
    summary_in,
)
from idl_cli.errors import ConfigError, RequestError
from idl_cli.requests.two_columns import line_width_or_none, two_columns

_LISTED_OVERLAYS = tuple(group for group in OVERLAYS if group != "local")


def main(arguments: Sequence[str]) -> int:
    """Print the options of one group, or of all."""
    parser = argparse.ArgumentParser(
        prog="idl list", description="What can be chosen in each config group."
    )
    parser.add_argument("group", nargs="?", metavar="GROUP", help="one group; all when left out")
    parser.add_argument(
        "--config-dir", "-cd", type=Path, metavar="DIR", help="further options: DIR/GROUP"
    )
    flags = parser.parse_args(list(arguments))
    if flags.config_dir is not None and not flags.config_dir.is_dir():
        raise RequestError(f"--config-dir {flags.config_dir}: there is no such directory")
    directories = [config_directory(), *([flags.config_dir] if flags.config_dir else [])]
    groups = (*registry.groups(), *_LISTED_OVERLAYS)
    if flags.group is None:
        chosen = [group for group in groups if summaries(group, directories)]
    elif flags.group in groups:
        chosen = [flags.group]
    else:
        raise RequestError(
            f"no group {flags.group!r}{did_you_mean(flags.group, groups)}; "
            f"groups: {', '.join(groups)}"
        )
    sys.stdout.write("\n".join(_lines(chosen, directories)) + "\n")
    return 0


def completions(words: Sequence[str], current: str) -> list[str]:
    """What the last word can become: a group, the flag."""
    del words, current
    return [*(f"{name} " for name in (*registry.groups(), *OVERLAYS)), "--config-dir "]


def summaries(group: str, directories: Sequence[Path]) -> dict[str, str]:
    """Every option of a group and its one-line summary.

    An option that is a component's own speaks with the schema's docstring, another with the first
    comment of its file. A plug-in is not imported for this: where it comes from is said instead.
    """
    built_in = {}
    if group in registry.groups():
        schemas = registry.built_in_schemas(group)
        built_in = {name: registry.summary_of(schema) for name, schema in schemas.items()}
    found = {}
    for option, file in option_files(group, directories).items():
        try:
            own = built_in.get(option) if component_in(file) == option else None
            found[option] = own or summary_in(file)
        except ConfigError as error:  # the others can be chosen all the same
            found[option] = f"damaged: {error}"
    for option, own_summary in built_in.items():
        found.setdefault(option, own_summary)
    if group in registry.groups():
        for option, entry in registry.plug_ins(group).items():
            package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "?"
            found.setdefault(option, f"plug-in {entry.value} of {package}")
    return found


def _lines(groups: Sequence[str], directories: Sequence[Path]) -> Iterator[str]:
    for index, group in enumerate(groups):
        if index:
            yield ""
        yield group
        yield from two_columns(summaries(group, directories).items(), line_width_or_none())
