"""Overrides: their keys, and written out so that a job gets one value and Hydra takes every key."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from idl_cli import registry
from idl_cli.config.options import OVERLAYS


def key_of(override: str) -> str:
    """The key of an override, whatever stands in front of it."""
    return override.lstrip("+~").partition("=")[0]


def is_of_hydra(override: str) -> bool:
    """Whether an override is of Hydra's own part: the launcher, the sweeper, directories."""
    return key_of(override).startswith(("hydra.", "hydra/"))


def only_drops(override: str, before: Iterable[str]) -> bool:
    """Whether an override is ``~KEY`` for a key of earlier ones: both together say nothing."""
    is_deletion = override.startswith("~") and "=" not in override
    return is_deletion and key_of(override) in map(key_of, before)


def value_texts(override: Override) -> Iterator[str]:
    """The values of a sweep as text; of an interval its ends."""
    if override.is_interval_sweep():
        interval = override.value()
        yield from (str(interval.start), str(interval.end))  # type: ignore[union-attr]
        return
    try:
        yield from (str(value) for value in override.sweep_string_iterator())
    except HydraException:  # glob(...)
        return


def pinned(override: Override, *, force: bool = False) -> str:
    """The override as one job gets it: the first value of a sweep."""
    if not override.is_sweep_override():
        return written(override, force=force)
    value = next(value_texts(override), None)
    return written(override, force=force, value=value)


def written(override: Override, *, force: bool = False, value: str | None = None) -> str:
    """The override as text; ``force`` writes a plain ``KEY=VALUE`` so that any key is taken."""
    assert override.input_line is not None
    if override.is_delete():
        return override.input_line
    text = override.get_value_string() if value is None else value
    prefix = override.get_key_element()
    is_group = override.key_or_group in (*registry.groups(), *OVERLAYS)
    if is_group and text == "null":  # which Hydra takes for no group
        return f"~{override.key_or_group}"
    is_value = "/" not in prefix and not override.is_hydra_override()
    if force and is_value and not is_group:
        prefix = "++" + prefix.lstrip("+")
    return f"{prefix}={text}"


def with_home(text: str) -> str:
    """The argument with a home directory where a value begins with ``~``, as after a shell.

    Shells leave the ``~`` of ``KEY=~/FILE`` alone, and Hydra's grammar has no place for it.
    """
    key, sign, value = text.partition("=")
    if not (key and sign) or value.startswith(("'", '"', "[", "{")):
        return text
    values = value.split(",")  # of a sweep
    if not any(each.startswith("~") for each in values):
        return text
    home = (quoted(os.path.expanduser(each)) if each[:1] == "~" else each for each in values)
    return f"{key}={','.join(home)}"


def quoted(text: str) -> str:
    """The text as Hydra's grammar reads it back.

    Quoted strings escape quotes, and backslashes where they stand before one.
    """
    doubled = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + found[2].replace("'", r"\'"), text)
    return f"'{doubled}'"
