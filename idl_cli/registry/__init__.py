"""Names to components: the built-in ones, and those of installed plug-in packages.

A component is named in its YAML by ``name:`` and built with its other keys as keyword arguments.
What is built in stands in one table (``registry/built_in.py``); a plug-in package
adds its own through Python entry points, one line each in its ``pyproject.toml``::

    [project.entry-points."idl_cli.solvers"]
    mine = "my_package.solvers:MySolver"

Nothing is imported before it is asked for, and no class path is ever taken from a config file.
"""

from __future__ import annotations

import inspect
import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from functools import cache, lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any, Literal

from idl_cli.config.describe import did_you_mean
from idl_cli.config.signature import class_name, schema_from_signature
from idl_cli.errors import ArgumentError, IgnoredOptionWarning, MissingExtraError
from idl_cli.registry.built_in import BUILT_IN, OPTIONS, RUNTIME


@dataclass(frozen=True)
class Component:
    """One thing that can be chosen in a config group.

    Attributes:
        group: the config group, such as ``"solver"``.
        name: what its YAML says after ``name:``.
        target: ``"module:attribute"`` of the class or function that makes it; None where the
            command does.
        schema: the dataclass of its keys, types, ranges and defaults.
        summary: one line for people.
    """

    group: str
    name: str
    target: str | None
    schema: type
    summary: str


def groups() -> tuple[str, ...]:
    """The config groups whose options are components."""
    return tuple(BUILT_IN)


def names(group: str) -> tuple[str, ...]:
    """What can be chosen in ``group``: built-in names first, then plug-ins in order of name."""
    return (*_built_in(group), *(name for name in plug_ins(group) if name not in BUILT_IN[group]))


def plug_ins(group: str) -> dict[str, EntryPoint]:
    """The entry points that installed packages offer for ``group``, by name; none is imported."""
    _built_in(group)
    return dict(_offered(group, tuple(map(_folder, sys.path))))


@lru_cache(maxsize=64)
def _offered(group: str, path: tuple[tuple[str, int], ...]) -> dict[str, EntryPoint]:
    """What the packages of a path offer: read once, since a command asks dozens of times."""
    found = sorted(entry_points(group=f"idl_cli.{group}s"), key=lambda entry: entry.name)
    return {entry.name: entry for entry in found}


def _folder(entry: str) -> tuple[str, int]:
    """A folder of the path, and when it last gained or lost a package, in ns; 0 of no folder."""
    place = os.path.abspath(entry)
    try:
        return place, os.stat(place).st_mtime_ns
    except OSError:
        return place, 0


def find(group: str, name: str) -> Component:
    """Look up a component and its schema; of a plug-in, this imports the package.

    Raises:
        ArgumentError: ``group`` or ``name`` does not exist, or a plug-in cannot be described.
    """
    built_in = _built_in(group)
    offered = plug_ins(group)
    if name in built_in:
        if name in offered:
            warnings.warn(
                f"{group}={name} is built in; the plug-in {offered[name].value} of the same name "
                "is ignored: its package should choose another name",
                IgnoredOptionWarning,
                stacklevel=2,
            )
        schema = _built_in_schema(group, name)
        return Component(group, name, built_in[name], schema, summary_of(schema))
    if name in offered:
        entry = offered[name]
        schema = _signature_schema(group, name, _import_plug_in(group, entry))
        return Component(group, name, entry.value, schema, summary_of(schema))
    known = names(group)
    raise ArgumentError(
        f"{group} has no component {name!r}; choose from {', '.join(known)}"
        f"{did_you_mean(name, known)}"
    )


def schema_of(group: str, name: str) -> type:
    """The schema of a component; what ``config.check`` looks sections up with."""
    return find(group, name).schema


def build(group: str, settings: Mapping[str, Any], /, **runtime: Any) -> Any:
    """Make the component that ``settings`` names.

    Args:
        group: the config group.
        settings: ``name`` and the keyword arguments; nested sections are plain dicts. Keys that
            the schema marks as ``COMMAND_ONLY`` are left out.
        **runtime: arguments known only at run time, such as ``input_dim``; none may also be a
            key of ``settings``.

    Raises:
        ArgumentError: unknown name, or arguments that the component does not take.
    """
    name = settings.get("name")
    if not isinstance(name, str):
        raise ArgumentError(f"{group}.name={name!r}: must name one of {', '.join(names(group))}")
    component = find(group, name)
    hidden = {item.name for item in fields(component.schema) if item.metadata.get("command_only")}
    arguments = {key: settings[key] for key in settings if key != "name" and key not in hidden}
    twice = sorted(arguments.keys() & runtime.keys())
    if twice:
        raise ArgumentError(f"{group}={name}: {', '.join(twice)} is given by the command, not here")
    target = load(component)
    signature = inspect.signature(target)
    for key in (*arguments, *runtime):
        if key not in signature.parameters:
            raise ArgumentError(
                f"{group}={name}: {component.target} takes no {key!r}"
                f"{did_you_mean(key, signature.parameters)}; "
                f"it takes {', '.join(signature.parameters)}"
            )
    try:
        signature.bind(**arguments, **runtime)
    except TypeError as error:
        raise ArgumentError(f"{group}={name}: {component.target}: {error}") from error
    return target(**arguments, **runtime)


def require_installed(settings: Mapping[str, Any]) -> None:
    """Make sure that the optional libraries that a configuration needs are there; none is imported.

    Args:
        settings: checked sections, by root key.

    Raises:
        MissingExtraError: the first that is missing, with the command that installs it.
    """
    for group in BUILT_IN:
        section = settings.get(group)
        if isinstance(section, Mapping) and section.get("name") in BUILT_IN[group]:
            schema = _built_in_schema(group, section["name"])
            for extra in getattr(schema, "extras", lambda _: ())(section):
                if find_spec(extra.module) is None:
                    raise MissingExtraError(
                        f"{group}={section['name']} needs {extra.library}: "
                        f"pip install 'idl-cli[{extra.name}]'"
                    )


def load(component: Component) -> Any:
    """Import the class or function that makes a component.

    Raises:
        ArgumentError: the command makes it.
    """
    if component.target is None:
        raise ArgumentError(f"{component.group}={component.name} is made by the command alone")
    return _import(component.target)


def runtime_arguments(group: str) -> frozenset[str]:
    """What a command hands in itself when it builds a component of ``group``."""
    return RUNTIME[group]


def built_in_schemas(group: str) -> dict[str, type]:
    """The schemas of the built-in components of ``group``, by name."""
    return {name: _built_in_schema(group, name) for name in _built_in(group)}


def summary_of(schema: type) -> str:
    """The first line of a schema's docstring."""
    return (inspect.getdoc(schema) or "").partition("\n")[0]


def _built_in(group: str) -> Mapping[str, str | None]:
    if group not in BUILT_IN:
        raise ArgumentError(
            f"no config group {group!r}; choose from {', '.join(BUILT_IN)}"
            f"{did_you_mean(group, BUILT_IN)}"
        )
    return BUILT_IN[group]


@cache
def _built_in_schema(group: str, name: str) -> type:
    options = _built_in_options(group, name)
    if options is None:
        target = BUILT_IN[group][name]
        assert target is not None, f"{group}={name} has neither options nor a maker"
        return _signature_schema(group, name, _import(target))
    named = [("name", Literal[name], field(default=name))]
    first = make_dataclass("Named", named, frozen=True, kw_only=True)
    described = {"__doc__": options.__doc__}
    return make_dataclass(
        options.__name__, [], bases=(options, first), namespace=described, frozen=True, kw_only=True
    )


def _built_in_options(group: str, name: str) -> type | None:
    words = class_name(name)
    for module in map(import_module, OPTIONS[group]):
        for suffix in (class_name(group), ""):
            options = vars(module).get(f"{words}{suffix}Options")
            if isinstance(options, type):
                return options
    return None


def _signature_schema(group: str, name: str, target: Any) -> type:
    base = _import("idl_cli.models.options:TrainedTeacherOptions") if group == "teacher" else None
    return schema_from_signature(name, target, runtime=RUNTIME[group], base=base)


def _import(target: str) -> Any:
    module, _, attribute = target.partition(":")
    found = import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def _import_plug_in(group: str, entry: EntryPoint) -> Any:
    try:
        return _import(entry.value)
    except (ImportError, AttributeError) as error:
        package = entry.dist.name if entry.dist else "its package"
        raise ArgumentError(
            f"{group}={entry.name}: the plug-in {entry.value} of {package} cannot be imported: "
            f"{error}"
        ) from error
