"""Hold the arguments of a Python call to the options that they are: the ranges of the config."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from numbers import Integral, Real

from idl_cli.config.check import collect, ranges
from idl_cli.errors import ArgumentError, ConfigError


def check_options(options: type, values: Mapping[str, object], *, section: str = "") -> None:
    """Refuse values that the config would refuse, alone or together.

    Args:
        options: the dataclass of a component's options.
        values: by name, those without a default among them. Numbers of any kind, sequences and
            paths do as Python's own int, float, tuple and str.
        section: of the config, where it is to be named before every key.

    Raises:
        ArgumentError: one sentence a mistake; a ConfigError where the section is named.
    """
    plain = {key: _plain(value) for key, value in values.items()}
    problems = collect(options, plain, lambda group, name: options)[1]
    if problems and section:
        raise ConfigError([f"{section}.{sentence}" for sentence in problems])
    if problems:
        raise ArgumentError("; ".join(problems))


def check_ranges(options: type, instance: object) -> None:
    """As :func:`check_options`, each value by itself: for ``__post_init__`` of the dataclass.

    Args:
        options: the dataclass whose fields are checked.
        instance: of it, or of a class that inherits it, which is then named.

    Raises:
        ArgumentError: one sentence a mistake.
    """
    values = {item.name: _plain(getattr(instance, item.name)) for item in fields(options)}
    problems = ranges(options, values)
    if problems:
        raise ArgumentError(f"{type(instance).__name__}: {'; '.join(problems)}")


def _plain(value: object) -> object:
    if isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return tuple(map(_plain, value)) if isinstance(value, Sequence) else value
