"""What people call the parts of their data, and the arrays of a part."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

PARTS: Final = ("train", "validation", "test")

_PART_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "train": "train",
        "training": "train",
        "validation": "validation",
        "valid": "validation",
        "val": "validation",
        "dev": "validation",
        "test": "test",
        "testing": "test",
    }
)

ARRAY_PAIRS: Final = (
    ("inputs", "targets"),
    ("inputs", "labels"),
    ("x", "y"),
    ("x", "labels"),
    ("images", "labels"),
    ("images", "targets"),
    ("image", "label"),
    ("data", "labels"),
    ("data", "label"),
    ("data", "targets"),
    ("data", "target"),
    ("features", "labels"),
    ("features", "targets"),
    ("samples", "labels"),
)
"""What samples and their targets are called together: by Keras, MedMNIST, scikit-learn, others."""

_PART = "|".join(_PART_NAMES)
_WORD = "|".join({word for pair in ARRAY_PAIRS for word in pair})
_ARRAY = re.compile(
    rf"(?:(?P<before>{_PART})[_. -]?)?(?P<word>{_WORD})|(?P<same>{_WORD})[_. -]?(?P<after>{_PART})"
)


def part_of(name: str) -> str | None:
    """The part that a name stands for, in any case; None for another name."""
    return _PART_NAMES.get(name.lower())


def array_name(key: str) -> tuple[str | None, str] | None:
    """The part, None for an undivided set, and the word of ``ARRAY_PAIRS`` that a key stands for.

    ``x_train``, ``trainX`` and ``train-x`` are all the ``x`` of ``train``; None for another key.
    """
    found = _ARRAY.fullmatch(key.lower())
    if found is None:
        return None
    part = found["before"] or found["after"]
    return part and part_of(part), found["word"] or found["same"]
