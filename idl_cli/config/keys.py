"""What there is to know of every key: default, what it allows, and the comment in its YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Final, get_args, get_type_hints

from idl_cli.config.check import schema_defaults
from idl_cli.config.describe import describe
from idl_cli.config.options import text_of

_KEY: Final = re.compile(r"^(?P<indent> *)(?P<key>\w+):(?P<value>[^#]*)(?:#\s*(?P<comment>.*))?$")


@dataclass(frozen=True)
class KeyFacts:
    """A key of a schema.

    Attributes:
        key: dotted, without the group's name.
        default: its value where nothing is said; ``"???"`` where it must be given.
        allowed: what it takes, in words.
        meaning: the comment beside it; empty where it has none.
    """

    key: str
    default: object
    allowed: str
    meaning: str


def key_facts(schema: type, comments: Mapping[str, str], prefix: str = "") -> Iterator[KeyFacts]:
    """Every key of a schema, sections unfolded, in the order of the comments.

    Args:
        schema: the dataclass of an option or of a section in it.
        comments: the meanings, by dotted key; see :func:`comments_in`.
        prefix: the section's own key with a dot behind it.
    """
    hints, defaults = get_type_hints(schema, include_extras=True), schema_defaults(schema)
    order = [name.removeprefix(prefix).partition(".")[0] for name in comments]
    places = {name: place for place, name in reversed(list(enumerate(order)))}
    for item in sorted(fields(schema), key=lambda item: places.get(item.name, len(order))):
        if item.name == "name":
            continue
        key, hint = f"{prefix}{item.name}", hints[item.name]
        nested = section_of(hint)
        if nested is not None:
            yield from key_facts(nested, comments, f"{key}.")
        else:
            yield KeyFacts(key, defaults[item.name], describe(hint), comments.get(key, ""))


def section_of(hint: Any) -> type | None:
    """The section of keys that a key always is, or is unless it is null; None for other keys."""
    members = [part for part in get_args(hint) or (hint,) if part is not NoneType]
    alone = members[0] if len(members) == 1 else None
    return alone if isinstance(alone, type) and is_dataclass(alone) else None


def comments_in(file: Path) -> dict[str, str]:
    """The comment behind every key of a YAML file, by dotted key."""
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in text_of(file).splitlines():
        match = _KEY.match(line)
        if match is None:
            continue
        indent = len(match["indent"])
        path = [part for part in path if part[0] < indent] + [(indent, match["key"])]
        if match["comment"]:
            found[".".join(key for _, key in path)] = match["comment"].strip()
    return found
