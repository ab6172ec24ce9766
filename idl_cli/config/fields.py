"""What a schema's annotation may say about a value beyond its type.

Every room may import this module, as all of ``config``: options stand with the component that they
are of. It imports the standard library alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

LARGEST_COUNT: Final = 2**31 - 1
LARGEST_SINGLE: Final = 1e38
"""What float32 holds with a factor of three to spare."""


@dataclass(frozen=True)
class Range:
    """An interval that a number must lie in; attach it with ``Annotated[float, Range(...)]``.

    An integer without a largest value has at most 31 bits, as memory, torch and loops take them.

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
        if self.high is None and is_beyond_counts(value):
            return False
        if self.low is not None and (value < self.low or (self.low_open and value == self.low)):
            return False
        if self.high is None:
            return value == value  # NaN lies in no interval
        return value < self.high or (not self.high_open and value == self.high)

    def __str__(self) -> str:
        if self.low is not None and self.high not in (None, math.inf):
            if isinstance(self.high, float) and self.high >= LARGEST_SINGLE:
                above = ">" if self.low_open else ">="
                return f"{above} {_number(self.low)} and at most {_number(self.high)}"
            left, right = "(" if self.low_open else "[", ")" if self.high_open else "]"
            return f"in {left}{_number(self.low)}, {_number(self.high)}{right}"
        if self.low is not None:
            finite = " and finite" if self.high == math.inf else ""
            return f"{'>' if self.low_open else '>='} {_number(self.low)}{finite}"
        if self.high is not None:
            return f"{'<' if self.high_open else '<='} {_number(self.high)}"
        return "any number"


def is_beyond_counts(value: object) -> bool:
    """Whether a value is an integer of more than 31 bits, which is no size and no count."""
    return isinstance(value, int) and value > LARGEST_COUNT


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


def parts_of(hint: Any) -> Iterator[Any]:
    """The types and marks of an annotation: of each member of a union, not of a list's entries."""
    if get_origin(hint) is Annotated:
        base, *marks = get_args(hint)
        yield from marks
        yield from parts_of(base)
    elif get_origin(hint) in (Union, UnionType):
        for member in get_args(hint):
            yield from parts_of(member)
    else:
        yield hint


POSITIVE = Range(0, low_open=True)
NON_NEGATIVE = Range(0)
FINITE_POSITIVE = Range(0, math.inf, low_open=True, high_open=True)
FINITE_NON_NEGATIVE = Range(0, math.inf, high_open=True)
SINGLE_POSITIVE = Range(0, LARGEST_SINGLE, low_open=True)
SINGLE_NON_NEGATIVE = Range(0, LARGEST_SINGLE)
AT_LEAST_ONE = Range(1)
PROCESS_COUNT = Range(1, 1024)  # of processes or threads on one machine
FRACTION = Range(0, 1, high_open=True)
PROPER_FRACTION = Range(0, 1, low_open=True, high_open=True)
SEED = Range(0, 2**63 - 1)  # what torch takes, which NumPy and Python take too

COMMAND_ONLY: Final[Mapping[str, bool]] = MappingProxyType({"command_only": True})
"""Field metadata of a key that the command acts on and the component's constructor never sees:
``init_run: str | None = field(default=None, metadata=COMMAND_ONLY)``."""


class Role(Enum):
    """What a key is to the job that its settings describe: whether another value is another job.

    Attach it as metadata, ``device: str = field(default="auto", metadata=MACHINE)``; what is marked
    holds for the keys below it.

    Attributes:
        RESULT: what the result follows from; keys without a mark.
        LENGTH: how long it works. The same run may go on with another value, its result is another.
        SOURCE: the path of the data themselves, which are compared once they are read.
        MACHINE: what a machine gives to it: a device, threads.
        PROCESSES: how the work is divided and rounded; what it converges to is the same.
        PLACE: where files lie and how long to wait for others; leaves no trace.
        RECORD: what is written down of it, and how often.
        EARLIER: which earlier work it goes on with.
    """

    RESULT = auto()
    LENGTH = auto()
    SOURCE = auto()
    MACHINE = auto()
    PROCESSES = auto()
    PLACE = auto()
    RECORD = auto()
    EARLIER = auto()

    @property
    def may_differ_between_ranks(self) -> bool:
        """Whether each rank of a job may have a value of its own."""
        return self in (Role.SOURCE, Role.MACHINE, Role.PLACE)

    @property
    def may_change_on_resume(self) -> bool:
        """Whether a run goes on from its checkpoint with another value."""
        return self not in (Role.RESULT, Role.SOURCE)

    @property
    def keeps_the_job(self) -> bool:
        """Whether a sweep that goes on takes another value for its jobs, and makes no new ones."""
        return self in (Role.MACHINE, Role.PROCESSES, Role.PLACE, Role.RECORD)

    @property
    def tells_runs_apart(self) -> bool:
        """Whether a comparison shows the key where runs differ in it."""
        return self not in (Role.PLACE, Role.RECORD, Role.EARLIER)


def _metadata(role: Role) -> Mapping[str, Role]:
    return MappingProxyType({"role": role})


LENGTH: Final = _metadata(Role.LENGTH)
SOURCE: Final = _metadata(Role.SOURCE)
MACHINE: Final = _metadata(Role.MACHINE)
PROCESSES: Final = _metadata(Role.PROCESSES)
PLACE: Final = _metadata(Role.PLACE)
RECORD: Final = _metadata(Role.RECORD)
EARLIER: Final = _metadata(Role.EARLIER)
