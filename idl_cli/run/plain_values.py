"""What a record may hold: plain values, neither too deep nor too large for their readers."""

from __future__ import annotations

import json
import math
from typing import Final

DEEPEST: Final = 100
"""Levels of nesting; what idl writes has about ten. Readers recurse, a few frames a level."""

_LARGEST_INTEGER: Final = 2**64
"""Seeds are below it; NumPy and floats take no integer of any length."""


def parse_json(content: bytes | str) -> object:
    """Parse a JSON document as ``files.to_json`` makes them.

    Raises:
        ValueError: it is no JSON, or holds what ``refuse_unusable`` refuses.
    """
    try:
        value: object = json.loads(content)
    except RecursionError:
        raise ValueError(f"nested more than {DEEPEST} levels deep") from None
    refuse_unusable(value, finite=True)
    return value


def refuse_unusable(value: object, *, finite: bool) -> None:
    """Refuse what would break those who compare, draw or print values.

    Args:
        value: as a parser returned it, without cycles.
        finite: whether NaN and infinities are refused too, which JSON does not have.

    Raises:
        ValueError: something in it is too deep, no plain value, an integer of more than 64 bits,
            or text that no encoding can write.
    """
    waiting = [(value, 0)]
    while waiting:
        each, depth = waiting.pop()
        if depth > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} levels deep")
        if isinstance(each, dict):
            waiting += [(key, depth) for key in each]
            if not all(isinstance(key, str) for key in each):
                raise ValueError("a key that is no text")
            waiting += [(entry, depth + 1) for entry in each.values()]
        elif isinstance(each, list):
            waiting += [(entry, depth + 1) for entry in each]
        elif isinstance(each, str):
            if not each.isascii():
                each.encode()  # a UnicodeEncodeError, which is a ValueError
        elif isinstance(each, float):
            if finite and not math.isfinite(each):
                raise ValueError(f"{each} is no number that JSON has")
        elif isinstance(each, int):
            if abs(each) >= _LARGEST_INTEGER:
                raise ValueError("an integer of more than 64 bits")
        elif each is not None:
            raise ValueError(f"a value of type {type(each).__name__}")
