"""Compare values with a schema: every mistake is collected, none is repaired in silence.

A schema is a frozen dataclass; its annotations say what is allowed: ``int``, ``float``, ``bool``,
``str``, ``Literal``, ``tuple[X, ...]``, ``list[X]``, ``Mapping[str, X]``, unions, nested frozen
dataclasses, and ``Annotated[X, Range(...) | Pattern(...) | Section(...)]``. An ``int`` is welcome
where a float is asked for; a bool is never a number. A schema's method ``problems()``, where there
is one, yields a sentence for every pair of values that cannot go together, the first word of which
is the key that has to change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from idl_cli.config.describe import describe, shown
from idl_cli.config.fields import Section, parts_of
from idl_cli.config.unknown_keys import Elsewhere, unknown_key
from idl_cli.errors import ConfigError, RequestError

MISSING_VALUE = "???"  # how OmegaConf writes a value that the user has to give

Lookup = Callable[[str, str], type]
"""(group, name) -> schema; raises a RequestError for a name the group does not have."""


@dataclass(frozen=True)
class Problem:
    """One mistake; a sentence of None marks an unknown key, phrased once all keys are known."""

    path: str
    value: object
    sentence: str | None


@dataclass
class _Walk:
    """What one pass over the values has seen."""

    lookup: Lookup
    problems: list[Problem] = field(default_factory=list)
    hints: dict[str, Any] = field(default_factory=dict)

    def refuse(self, path: str, value: object, sentence: str) -> None:
        self.problems.append(Problem(path, value, sentence))


def check(
    schema: type,
    values: Mapping[str, Any],
    lookup: Lookup,
    elsewhere: Elsewhere | None = None,
) -> dict[str, Any]:
    """Check ``values`` against ``schema`` and fill in the defaults of absent keys.

    Args:
        schema: the dataclass to check against.
        values: plain nested values, as parsed from YAML.
        lookup: the schema of a component, by group and name, for keys marked with ``Section``.
        elsewhere: says which option or command an unknown key belongs to.

    Returns:
        Plain nested dicts holding every key of the schema.

    Raises:
        ConfigError: with one sentence a mistake, all of them.
    """
    checked, problems = collect(schema, values, lookup, elsewhere)
    if problems:
        raise ConfigError(problems)
    return checked


def collect(
    schema: type,
    values: Mapping[str, Any],
    lookup: Lookup,
    elsewhere: Elsewhere | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """As ``check``, but hand back the sentences instead of raising them."""
    walk = _Walk(lookup)
    checked = _mapping(schema, values, "", walk)
    valid = list(walk.hints)
    return checked, [_sentence(problem, valid, elsewhere) for problem in walk.problems]


def mistakes(schema: type, values: Mapping[str, Any], *, alone: bool = False) -> list[Problem]:
    """What is wrong with the values of some keys of a schema that holds no config group.

    Args:
        schema: the dataclass of the keys.
        values: by key.
        alone: leaves out which values do not go together, and which are missing.
    """
    walk = _Walk(lookup=lambda group, name: schema)
    if not alone:
        _mapping(schema, values, "", walk)
        return walk.problems
    for key, value in values.items():
        _value(hints_of(schema)[key], value, key, walk)
    return walk.problems


def key_hints(schema: type, lookup: Lookup, values: Mapping[str, Any]) -> dict[str, Any]:
    """Every dotted key that ``schema`` knows and its annotation, given the components named."""
    walk = _Walk(lookup)
    _mapping(schema, values, "", walk)
    return walk.hints


@cache
def hints_of(schema: type) -> dict[str, Any]:
    """The annotations of a schema, marks included."""
    return get_type_hints(schema, include_extras=True)


def instantiate(schema: type, checked: Mapping[str, Any]) -> Any:
    """The schema's dataclass holding checked values, nested dataclasses included."""
    hints = hints_of(schema)
    return schema(
        **{key: _instance(hints[key], value) for key, value in checked.items() if key in hints}
    )


def schema_defaults(schema: type) -> dict[str, Any]:
    """What an option's YAML would hold: every key's default, ``???`` where there is none."""
    return {item.name: _plain(_default(item)) for item in fields(schema)}


def _instance(hint: Any, value: object) -> object:
    nested = next((part for part in _members(hint) if is_dataclass(part)), None)
    if isinstance(value, Mapping) and isinstance(nested, type):
        return instantiate(nested, value)
    return value


def _sentence(problem: Problem, valid: Sequence[str], elsewhere: Elsewhere | None) -> str:
    given = f"{problem.path}={shown(problem.value)}"
    if problem.value == MISSING_VALUE:
        given = problem.path
    if problem.sentence is not None:
        return f"{given}: {problem.sentence}" if problem.path else problem.sentence
    return unknown_key(problem.path, problem.value, valid, elsewhere)


def _mapping(schema: type, values: Mapping[str, Any], path: str, walk: _Walk) -> dict[str, Any]:
    """Check one dataclass's worth of keys."""
    before = len(walk.problems)
    hints = hints_of(schema)
    known = {item.name: item for item in fields(schema)}
    prefix = f"{path}." if path else ""
    checked: dict[str, Any] = {}
    for key, item in known.items():
        here = prefix + key
        walk.hints[here] = hints[key]
        if key in values and values[key] != MISSING_VALUE:
            checked[key] = _value(hints[key], values[key], here, walk)
        elif key in values or _default(item) == MISSING_VALUE:
            allowed = describe(hints[key])
            walk.refuse(here, MISSING_VALUE, f"missing; give {here}=VALUE, {allowed}")
        else:
            default = _default(item)
            checked[key] = _plain(default)
            _note_nested(hints[key], default, here, walk)
    for key, value in values.items():
        if key not in known:
            walk.problems.extend(_unknown(f"{prefix}{key}", value))
    if len(walk.problems) == before and hasattr(schema, "problems"):
        for sentence in instantiate(schema, checked).problems():
            walk.refuse("", None, prefix + sentence)
    return checked


def _unknown(path: str, value: object) -> list[Problem]:
    """One problem a leaf, so that each can be told its own nearest key."""
    if isinstance(value, Mapping) and value:
        return [each for key, inner in value.items() for each in _unknown(f"{path}.{key}", inner)]
    return [Problem(path, value, None)]


def _default(item: Field[Any]) -> Any:
    if item.default is not MISSING:
        return item.default
    return MISSING_VALUE if item.default_factory is MISSING else item.default_factory()


def _plain(default: object) -> object:
    if is_dataclass(default) and not isinstance(default, type):
        return asdict(default)
    return dict(default) if isinstance(default, Mapping) else default


def _note_nested(hint: Any, default: object, path: str, walk: _Walk) -> None:
    """Remember the keys of a nested section that the values leave at its default."""
    if is_dataclass(default) and not isinstance(default, type):
        _mapping(type(default), asdict(default), path, walk)
    elif default is None:
        for member in _members(hint):
            if isinstance(member, type) and is_dataclass(member):
                walk.hints.update(
                    {f"{path}.{key}": each for key, each in get_type_hints(member).items()}
                )


def _members(hint: Any) -> list[Any]:
    """The alternatives of a union, each without its annotations; the hint itself otherwise."""
    if get_origin(hint) is Annotated:
        return _members(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return [part for member in get_args(hint) for part in _members(member)]
    return [hint]


def _value(hint: Any, value: Any, path: str, walk: _Walk) -> Any:
    """Check one value; refuse it once, with everything that is allowed."""
    section = next((part for part in parts_of(hint) if isinstance(part, Section)), None)
    if section is not None and (value is not None or NoneType not in _members(hint)):
        return _section(section, value, path, walk)
    for base, limits in _alternatives(hint):
        if isinstance(base, type) and is_dataclass(base) and isinstance(value, Mapping):
            return _mapping(base, value, path, walk)
        if get_origin(base) in (tuple, list, Sequence) and isinstance(value, (list, tuple)):
            return _sequence(base, value, path, walk)
        if get_origin(base) in (dict, Mapping) and isinstance(value, Mapping):
            element = get_args(base)[1]
            return {
                key: _value(element, each, f"{path}.{key}", walk) for key, each in value.items()
            }
        fits, converted = _scalar(base, value)
        if fits and all(converted in limit for limit in limits):
            return converted
    walk.refuse(path, value, f"must be {describe(hint, value)}")
    return value


def _alternatives(hint: Any, limits: tuple[Any, ...] = ()) -> list[tuple[Any, tuple[Any, ...]]]:
    """The alternatives of a union, each with the limits that its values must keep."""
    if get_origin(hint) is Annotated:
        base, *marks = get_args(hint)
        return _alternatives(base, (*limits, *(m for m in marks if hasattr(m, "__contains__"))))
    if get_origin(hint) in (Union, UnionType):
        return [pair for member in get_args(hint) for pair in _alternatives(member, limits)]
    return [(hint, () if hint is NoneType else limits)]


def _scalar(hint: Any, value: Any) -> tuple[bool, Any]:
    """Whether ``value`` is of the scalar type ``hint``, and the value as that type."""
    if hint in (Any, object):
        return True, value
    if hint in (None, NoneType):
        return value is None, value
    if get_origin(hint) is Literal:
        return any(value == each and type(value) is type(each) for each in get_args(hint)), value
    if isinstance(value, bool):
        return hint is bool, value
    if hint is float and isinstance(value, (int, float)):
        try:
            return math.isfinite(value), float(value)
        except OverflowError:  # an integer beyond the largest float
            return False, value
    return isinstance(hint, type) and get_origin(hint) is None and isinstance(value, hint), value


def _sequence(hint: Any, value: Sequence[Any], path: str, walk: _Walk) -> Any:
    kind, arguments = get_origin(hint), get_args(hint)
    if kind is tuple and Ellipsis not in arguments:
        if len(value) != len(arguments):
            walk.refuse(path, value, f"must be {describe(hint)}")
            return value
        elements = list(arguments)
    else:
        elements = [arguments[0]] * len(value)
    checked = [
        _value(element, each, f"{path}[{index}]", walk)
        for index, (element, each) in enumerate(zip(elements, value, strict=True))
    ]
    return tuple(checked) if kind is tuple else checked


def _section(section: Section, value: Any, path: str, walk: _Walk) -> Any:
    """Check a config group's keys against the schema of the component that it names."""
    if not isinstance(value, Mapping):
        walk.refuse(path, value, f"must be an option of the group, {section.group}=OPTION")
        return value
    name = value.get("name", MISSING_VALUE)
    if not isinstance(name, str) or name == MISSING_VALUE:
        walk.refuse(f"{path}.name", name, f"must name a component of the group {section.group}")
        return dict(value)
    try:
        schema = walk.lookup(section.group, name)
    except RequestError as error:
        walk.refuse(f"{path}.name", name, str(error))
        return dict(value)
    return _mapping(schema, value, path, walk)
