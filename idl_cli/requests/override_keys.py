"""The key of an override, and whether it makes a job what it is or only says how it is run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_HOW: Final = (
    "device",
    "threads",
    "join_timeout",
    "report",
    "profile",
    "logger",
    "optimized_metric",
    "dataset.root",
    "dataset.mirror",
)
"""Keys that say where a job is run and how it is recorded: they do not make it another job."""


def key_of(override: str) -> str:
    """Return the key of an override, whatever stands in front of it."""
    return override.lstrip("+~").partition("=")[0]


def is_of_hydra(override: str) -> bool:
    """Whether an override is of Hydra's own part: the launcher, the sweeper, directories."""
    return key_of(override).startswith(("hydra.", "hydra/"))


def says_how(key: str) -> bool:
    """Whether a key says where or how a job is run, not what it computes."""
    return key in _HOW or key.startswith(tuple(f"{each}." for each in _HOW))


def what_it_is(overrides: Iterable[str]) -> list[str]:
    """Return the overrides of a job without those that say where and how it is run."""
    return [text for text in overrides if not says_how(key_of(text))]
