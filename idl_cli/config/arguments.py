"""Hold the arguments of a Python call to the options that they are: the ranges of the config."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from functools import wraps
from inspect import Parameter, Signature, signature
from numbers import Integral, Real
from typing import Concatenate, ParamSpec, TypeVar

from idl_cli.config.check import Problem, mistakes
from idl_cli.config.describe import shown
from idl_cli.errors import ArgumentError, ConfigError

_Options = TypeVar("_Options")
_Made = TypeVar("_Made")
_Own = ParamSpec("_Own")


def keywords_of(
    options: type[_Options], *, section: str = ""
) -> Callable[[Callable[Concatenate[_Options, _Own], _Made]], Callable[..., _Made]]:
    """Let a function of an options object be called with the options as keyword arguments.

    The function made has the options' names and defaults in its signature, before the keyword
    arguments of its own, and refuses values that the config would refuse.

    Args:
        options: the dataclass that the decorated function takes first.
        section: see :func:`check_options`, whose errors are raised.
    """
    keys = [
        Parameter(
            item.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if item.default is MISSING else item.default,
            annotation=item.type,
        )
        for item in fields(options)  # type: ignore[arg-type]
    ]

    def decorate(make: Callable[Concatenate[_Options, _Own], _Made]) -> Callable[..., _Made]:
        taken = signature(make)
        _, *own = taken.parameters.values()
        first = [each for each in own if each.kind is not Parameter.KEYWORD_ONLY]
        shape = Signature([*first, *keys, *own[len(first) :]])

        @wraps(make)
        def called(*arguments: object, **keywords: object) -> _Made:
            rest = shape.bind(*arguments, **keywords).arguments
            given = {key.name: _plain(rest.pop(key.name)) for key in keys if key.name in rest}
            check_options(options, given, section=section)
            return make(options(**given), **rest)  # type: ignore[call-arg]

        vars(called)["__signature__"] = shape.replace(return_annotation=taken.return_annotation)
        return called

    return decorate


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
    problems = mistakes(options, plain)
    if problems and section:
        raise ConfigError([f"{section}.{_as_config(problem)}" for problem in problems])
    if problems:
        raise ArgumentError("; ".join(_as_call(problem, plain) for problem in problems))


def check_ranges(options: type, instance: object) -> None:
    """As :func:`check_options`, each value by itself: for ``__post_init__`` of the dataclass.

    Args:
        options: the dataclass whose fields are checked.
        instance: of it, or of a class that inherits it, which is then named.

    Raises:
        ArgumentError: one sentence a mistake.
    """
    values = {item.name: _plain(getattr(instance, item.name)) for item in fields(options)}
    problems = mistakes(options, values, alone=True)
    if problems:
        told = "; ".join(_as_call(problem, values) for problem in problems)
        raise ArgumentError(f"{type(instance).__name__}: {told}")


def _as_config(problem: Problem) -> str:
    assert problem.sentence is not None, f"{problem.path} is no option"
    if not problem.path:
        return problem.sentence
    return f"{problem.path}={shown(problem.value)}: {problem.sentence}"


def _as_call(problem: Problem, values: Mapping[str, object]) -> str:
    value, sentence = problem.value, problem.sentence or ""
    if isinstance(value, str):
        return f"{problem.path}={value!r} {sentence}"
    if isinstance(value, int | float) and "[" not in problem.path:
        return f"{problem.path}={value:g} {sentence.replace('a number ', '')}"
    key, entry, _ = problem.path.partition("[")
    return f"{key}={shown(values[key])}: {_as_config(problem)}" if entry else _as_config(problem)


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
