"""YAML files of unknown origin: their size, depth and aliases are bounded before any is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from idl_cli.errors import RunError, file_refusal
from idl_cli.run.plain_values import DEEPEST, refuse_unusable

LARGEST: Final = 1 << 24
"""Bytes of a YAML file; a composed configuration has a few thousand."""

_MOST_VALUES: Final = 100_000
"""Values of a document, those that aliases repeat counted again ("a billion laughs")."""

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

PARSER_ERRORS: Final = (
    yaml.YAMLError,
    ValueError,  # a date or number that is none
    TypeError,
    AttributeError,  # !!timestamp of other text
    LookupError,  # !!bool and !!int of other text
)
"""What PyYAML raises for content that it cannot build."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a section of keys as safe plain values; an absent file is an empty one.

    Raises:
        RunError: the file is unreadable, too large or too deep, or holds anything else.
    """
    text = yaml_text(path)
    value = {} if text is None else _parsed(path, text)
    if not isinstance(value, dict):
        raise RunError(f"{path}: a section of keys is needed, not a {type(value).__name__}")
    return value


def read_lines(path: Path) -> list[str]:
    """Read a list of texts; an absent file is an empty one.

    Raises:
        RunError: the file is unreadable, too large or too deep, or holds anything else.
    """
    text = yaml_text(path)
    value = [] if text is None else _parsed(path, text)
    if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
        raise RunError(f"{path}: a list of texts is needed")
    return value


def _parsed(path: Path, text: str) -> Any:
    try:
        value = yaml.load(text, Loader=_LOADER)
    except PARSER_ERRORS as error:
        raise RunError(f"{path}: {yaml_problem(error)}") from error
    try:
        refuse_unusable(value, finite=False)
    except ValueError as error:
        raise RunError(f"{path}: cannot be read ({error})") from error
    return value


def yaml_text(path: Path) -> str | None:
    """The text of a YAML file that any loader may be given; None where there is no such file.

    Raises:
        RunError: it is no file, no UTF-8 or no YAML, or its values, with all that its aliases
            repeat, are too many, too deep or without end.
    """
    refusal = file_refusal(path, LARGEST)
    if refusal is not None:
        raise RunError(f"{path}: {refusal}")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error})") from error
    try:
        _refuse_unbounded(text)
    except PARSER_ERRORS as error:
        raise RunError(f"{path}: {yaml_problem(error)}") from error
    return text


def yaml_problem(error: Exception) -> str:
    """Say in one line where a YAML file is wrong, and what is wrong there."""
    mark = getattr(error, "problem_mark", None)
    where = "" if mark is None else f"line {mark.line + 1}: "
    reason = getattr(error, "problem", None) or " ".join(str(error).split())
    return f"not readable as YAML ({where}{reason})"


def _refuse_unbounded(text: str) -> None:
    """Go through the events of a document, which builds nothing."""
    anchors: dict[str, tuple[int, int] | None] = {}  # values and levels below; None: still open
    open_: list[tuple[str | None, int, int]] = []  # anchor, values, levels of each collection
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, 1, 1))
            if event.anchor is not None:
                anchors[event.anchor] = None
            values, levels = 0, 0
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, values, levels = open_.pop()
            if anchor is not None:
                anchors[anchor] = (values, levels)
        elif isinstance(event, yaml.ScalarEvent):
            values, levels = 1, 0
            if event.anchor is not None:
                anchors[event.anchor] = (1, 0)
        elif isinstance(event, yaml.AliasEvent):
            repeated = anchors.get(str(event.anchor), (1, 0))
            if repeated is None:
                raise _refused(event, f"*{event.anchor} refers to what it is part of")
            values, levels = repeated
        else:
            continue
        if len(open_) + levels > DEEPEST:
            raise _refused(event, f"nested more than {DEEPEST} levels deep")
        if open_:
            anchor, before, deepest = open_[-1]
            open_[-1] = (anchor, before + values, max(deepest, levels + 1))
            if before + values > _MOST_VALUES:
                raise _refused(event, f"more than {_MOST_VALUES:,} values")


def _refused(event: Any, reason: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=reason, problem_mark=event.start_mark)
