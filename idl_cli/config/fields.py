"""What a schema's annotation may say about a value beyond its type."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal


@dataclass(frozen=True)
class Range:
    """An interval that a number must lie in; attach it with ``Annotated[float, Range(...)]``.

    Args:
        low: smallest value, None for no bound.
        high: largest value, None for no bound.
        low_open: whether ``low`` itself is excluded.
        high_open: whether ``high`` itself is excluded.
    """

    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False

    def __contains__(self, value: float) -> bool:
        if self.low is not None and (value < self.low or (self.low_open and value == self.low)):
            return False
        if self.high is None:
            return value == value  # NaN lies in no interval
        return value < self.high or (not self.high_open and value == self.high)

    def __str__(self) -> str:
        if self.low is not None and self.high is not None:
            left, right = "(" if self.low_open else "[", ")" if self.high_open else "]"
            return f"in {left}{_number(self.low)}, {_number(self.high)}{right}"
        if self.low is not None:
            return f"{'>' if self.low_open else '>='} {_number(self.low)}"
        if self.high is not None:
            return f"{'<' if self.high_open else '<='} {_number(self.high)}"
        return "any number"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


@dataclass(frozen=True)
class Pattern:
    """A form that a text must have; attach it with ``Annotated[str, Pattern(...)]``.

    Args:
        regex: regular expression that the whole text must match.
        meaning: what is allowed, in words; shown when a value is refused.
        examples: values to offer in shell completion.
    """

    regex: str
    meaning: str
    examples: tuple[str, ...] = ()

    def __contains__(self, value: str) -> bool:
        return re.fullmatch(self.regex, value) is not None

    def __str__(self) -> str:
        return self.meaning


@dataclass(frozen=True)
class Existing:
    """A path that must be there before any work; attach it with ``Annotated[str, Existing(...)]``.

    The settings that a run was made with are not held to it: its data may have moved since.

    Args:
        kind: what must be there.
        unless: a value that is no path.
    """

    kind: Literal["directory", "file", "file or directory"]
    unless: str | None = None


@dataclass(frozen=True)
class Section:
    """A root key filled from a config group; its schema is that of the component it names.

    Args:
        group: the config group, such as ``"model"``.
    """

    group: str


@dataclass(frozen=True)
class Extra:
    """An optional library; a schema names those that its option needs in a method ``extras``.

    Args:
        name: of the extra in ``pip install 'idl-cli[NAME]'``.
        module: what is imported, by which it is found.
        library: what people call it.
    """

    name: str
    module: str
    library: str


POSITIVE = Range(0, low_open=True)
NON_NEGATIVE = Range(0)
AT_LEAST_ONE = Range(1)
FRACTION = Range(0, 1, high_open=True)
SEED = Range(0, 2**63 - 1)  # what torch takes, which NumPy and Python take too

COMMAND_ONLY: Final[Mapping[str, bool]] = MappingProxyType({"command_only": True})
"""Field metadata of a key that the command acts on and the component's constructor never sees:
``init_run: str | None = field(default=None, metadata=COMMAND_ONLY)``."""
