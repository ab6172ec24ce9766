"""Two requests side by side: in which keys they differ, and whether that makes them two jobs.

What a key is to its job stands beside it in its schema. Keys of one name mean the same in all
options of a group, so the role of a key is known before its component is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from functools import cache
from types import MappingProxyType
from typing import Any, get_type_hints

from idl_cli import registry
from idl_cli.config.fields import Role
from idl_cli.config.keys import section_of
from idl_cli.config.schemas.root import TrainingSettings


def role_of(key: str) -> Role:
    """What a dotted key is to its job; keys below a marked one are what that is."""
    marked = marked_keys()
    while key:
        if key in marked:
            return marked[key]
        key = key.rpartition(".")[0]
    return Role.RESULT


def differences(
    first: Any, other: Any, is_free: Callable[[Role], bool], path: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """In which keys two requests differ that may not differ in them.

    Args:
        first: checked settings, nested.
        other: those of the other request.
        is_free: whether keys of a role may differ.
        path: the key that both are the values of; empty for whole requests.

    Yields:
        The dotted key, its value in the first, its value in the other; None for an absent one.
    """
    if path and is_free(role_of(path)):
        return
    if isinstance(first, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys([*first, *other]):
            name = f"{path}.{key}" if path else str(key)
            yield from differences(first.get(key), other.get(key), is_free, name)
    elif first != other:
        yield path, first, other


@cache
def marked_keys() -> Mapping[str, Role]:
    """The keys that commands share and those of built-in components that have a role of their own.

    Whatever a logger is told, the job stays the same.
    """
    found: dict[str, Role] = {"logger": Role.RECORD, **dict(_marked(TrainingSettings))}
    for group in registry.groups():
        for schema in registry.built_in_schemas(group).values():
            found.update(_marked(schema, f"{group}."))
    return MappingProxyType(found)


def _marked(schema: type, prefix: str = "") -> Iterator[tuple[str, Role]]:
    hints = get_type_hints(schema, include_extras=True)
    for item in fields(schema):
        key = f"{prefix}{item.name}"
        section = section_of(hints[item.name])
        if "role" in item.metadata:
            yield key, item.metadata["role"]
        elif section is not None:
            yield from _marked(section, f"{key}.")
