"""A schema from a constructor's signature: how a plug-in states its keys without writing one."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, is_dataclass, make_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from idl_cli.errors import ArgumentError

_SCALARS = (int, float, bool, str, NoneType, object, Any)


def schema_from_signature(
    name: str, target: Any, *, runtime: Collection[str], base: type | None = None
) -> type:
    """Derive a frozen dataclass of keys, types and defaults from a class or function.

    Args:
        name: what the option is called; the schema's ``name`` field.
        target: the class or function that makes the component.
        runtime: parameters that the command hands in, no keys of the configuration.
        base: a dataclass of further keys, those that the command acts on; None for no others.

    Returns:
        The schema; a parameter whose annotation says nothing checkable accepts any value.

    Raises:
        ArgumentError: the signature takes ``*args``, ``**kwargs`` or positional-only parameters,
            so that a misspelt key could not be refused.
    """
    hints = _hints(target)
    columns: list[Any] = [("name", Literal[name], field(default=name))]
    for parameter in inspect.signature(target).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ArgumentError(
                f"plug-in {name!r} ({target.__module__}.{target.__qualname__}) takes "
                f"{parameter}: its arguments must be named one by one"
            )
        if parameter.name in runtime:
            continue
        hint = hints.get(parameter.name, object)
        hint = hint if _checkable(hint) else object
        if parameter.default is parameter.empty:
            columns.append((parameter.name, hint))
        else:
            columns.append((parameter.name, hint, _default(parameter.default)))
    bases = () if base is None else (base,)
    schema = make_dataclass(
        class_name(name) or "Option", columns, bases=bases, frozen=True, kw_only=True
    )
    schema.__doc__ = inspect.getdoc(target) or f"{target.__module__}:{target.__qualname__}."
    return schema


def _hints(target: Any) -> Mapping[str, Any]:
    owner = vars(target).get("__init__", target) if isinstance(target, type) else target
    try:
        return get_type_hints(owner, include_extras=True)
    except NameError:  # names imported for type checkers only: such hints cannot be checked
        return {}


def _checkable(hint: Any) -> bool:
    if get_origin(hint) is Annotated:
        return _checkable(get_args(hint)[0])
    if get_origin(hint) is Literal or hint in _SCALARS:
        return True
    if get_origin(hint) in (Union, UnionType, tuple, list, Sequence, Mapping, dict):
        return all(part is Ellipsis or _checkable(part) for part in get_args(hint))
    return isinstance(hint, type) and is_dataclass(hint)


def _default(value: Any) -> Any:
    if isinstance(value, (list, dict, set)):
        return field(default_factory=lambda: value.copy())
    return field(default=value)


def class_name(name: str) -> str:
    """``least_squares`` as ``LeastSquares``."""
    return "".join(part.capitalize() for part in name.replace("-", "_").split("_"))
