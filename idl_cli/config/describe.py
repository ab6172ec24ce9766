"""What a type annotation allows, in words, and how a value looks on the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from idl_cli.config.fields import LARGEST_COUNT, Range, is_beyond_counts

_WORDS: Final[Mapping[Any, str]] = MappingProxyType(
    {
        bool: "true or false",
        int: "an integer",
        float: "a number",
        str: "a text",
        None: "null",
        NoneType: "null",
        Any: "any value",
        object: "any value",
    }
)


def describe(hint: Any, value: object = None) -> str:
    """What ``hint`` allows, such as ``an integer >= 1 or null``.

    Args:
        hint: a type annotation of a schema.
        value: the refused value; its nearest choice is named where the hint lists choices.
    """
    if get_origin(hint) is Annotated:
        base, *limits = get_args(hint)
        words = " ".join(str(limit) for limit in limits if hasattr(limit, "__contains__"))
        if any(isinstance(limit, Range) and limit.high is None for limit in limits):
            words += f" and at most {LARGEST_COUNT}" * is_beyond_counts(value)
        if base is str and words:
            return words
        if get_origin(base) in (Union, UnionType) and words:
            members = [each for each in get_args(base) if each is not NoneType]
            nullable = len(members) < len(get_args(base))
            joined = " or ".join(describe(each, value) for each in members)
            return f"{joined} {words}{' or null' if nullable else ''}"
        return f"{describe(base, value)} {words}".strip()
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(dict.fromkeys(describe(member, value) for member in get_args(hint)))
    if get_origin(hint) is Literal:
        choices = [shown(each) for each in get_args(hint)]
        return _one_of(choices) + did_you_mean(value, choices)
    if get_origin(hint) in (tuple, list, Sequence):
        return _describe_sequence(hint)
    if get_origin(hint) in (dict, Mapping) or (isinstance(hint, type) and is_dataclass(hint)):
        return "a section of keys"
    return _WORDS.get(hint, getattr(hint, "__name__", str(hint)))


def _describe_sequence(hint: Any) -> str:
    arguments = get_args(hint)
    if get_origin(hint) is tuple and Ellipsis not in arguments:
        return f"a list of {len(arguments)}: [{', '.join(describe(each) for each in arguments)}]"
    return f"a list whose every entry is {describe(arguments[0])}"


def _one_of(choices: Sequence[str]) -> str:
    return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"


def did_you_mean(value: object, choices: Iterable[str]) -> str:
    """`` (did you mean X?)`` when one of the choices is close to the value, else nothing."""
    if not isinstance(value, str):
        return ""
    close = difflib.get_close_matches(value, list(choices), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def shown(value: object, *, longest: int | None = 60) -> str:
    """A value as one would type it on the command line.

    Args:
        value: a number, a text, a list, a mapping or None.
        longest: characters from which on it is cut short; None for all of it.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        text = (
            "{"
            + ", ".join(f"{key}: {shown(each, longest=longest)}" for key, each in value.items())
            + "}"
        )
    elif isinstance(value, (list, tuple)):
        text = "[" + ", ".join(shown(each, longest=longest) for each in value) + "]"
    else:
        text = str(value)
    return text if longest is None or len(text) <= longest else text[: longest - 3] + "..."
