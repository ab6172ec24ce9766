"""Paths in a request that lead nowhere: a mistake of the request, found before any work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from idl_cli.config.check import Lookup, key_hints
from idl_cli.config.fields import Existing, parts_of


def paths_that_lead_nowhere(
    schema: type, settings: Mapping[str, Any], lookup: Lookup
) -> Iterator[str]:
    """A sentence for each path of checked settings at which nothing of the needed kind is.

    Args:
        schema: of the command.
        settings: checked against it.
        lookup: the schema of a component, by group and name.
    """
    for key, hint in key_hints(schema, lookup, settings).items():
        mark, value = _mark(hint), _value(settings, key)
        if mark is None or not isinstance(value, str) or value == mark.unless:
            continue
        path = Path(value).expanduser()
        if not value.strip():  # an empty variable of a script's is not the working directory
            yield f"{key}={value}: names no {mark.kind}; give one, or leave the key out"
        elif not path.exists():
            yield f"{key}={value}: no such {mark.kind}"
        elif (mark.kind == "directory" and not path.is_dir()) or (
            mark.kind == "file" and path.is_dir()
        ):
            yield f"{key}={value}: is no {mark.kind}"


def _mark(hint: Any) -> Existing | None:
    return next((part for part in parts_of(hint) if isinstance(part, Existing)), None)


def _value(settings: Any, key: str) -> object:
    for part in key.split("."):
        settings = settings.get(part) if isinstance(settings, Mapping) else None
    return settings
