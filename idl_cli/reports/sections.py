"""What the reports of runs and of sweeps have in common: configuration, environment, durations."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from idl_cli.analysis.columns import text
from idl_cli.analysis.comparison import flatten
from idl_cli.analysis.pages import Fact
from idl_cli.config.check import collect
from idl_cli.config.options import config_directory, defaults_in
from idl_cli.errors import RunError
from idl_cli.reports.entries import Schemas
from idl_cli.run.files import read_json


def configuration_facts(keys: Mapping[str, object]) -> list[Fact]:
    """All keys, a component before its own."""
    return [Fact(key, _value(keys[key])) for key in sorted(keys, key=lambda key: key.split("."))]


def changed_facts(command: str | None, keys: Mapping[str, object], schemas: Schemas) -> list[Fact]:
    """The keys whose value is not the default, with the default as the note.

    A component's keys are compared with that component's own defaults; the note is empty where a
    key has no default, or the present schemas do not know it.
    """
    defaults = _defaults(command, keys, schemas)
    if not defaults:
        return []
    noted = [
        Fact(fact.label, fact.value, _value(defaults[fact.label]) if fact.label in defaults else "")
        for fact in configuration_facts(keys)
    ]
    return [fact for fact in noted if fact.value != fact.note]


def _defaults(
    command: str | None, keys: Mapping[str, object], schemas: Schemas
) -> dict[str, object]:
    specification = schemas.command(command)
    if specification is None:
        return {}
    named = {group: {"name": keys[group]} for group in specification.sections if keys.get(group)}
    values, _ = collect(specification.schema, named, schemas.of_component)
    root = config_directory() / f"{command}.yaml"
    chosen = defaults_in(root) if root.exists() else {}
    options = {group: chosen[group] for group in named if group in chosen}
    return {**flatten(values), **options}


def environment_facts(run: Path) -> list[Fact]:
    """What a run's ``environment.json`` says; nothing where there is none."""
    try:
        found = read_json(run / "environment.json")
    except RunError:
        return []
    return [Fact(name.replace("_", " "), _said(value)) for name, value in found.items()]


def _said(value: object) -> str:
    if isinstance(value, Mapping):
        pairs = (f"{key} {each}" for key, each in value.items() if each is not None)
        return ", ".join(pairs)
    if isinstance(value, list):
        return shlex.join(map(str, value))
    return _value(value)


def _value(value: object) -> str:
    return "null" if value is None else text(value)


def duration(seconds: object) -> str:
    """Seconds as people read them."""
    if not isinstance(seconds, int | float):
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def score(name: str, value: object) -> str:
    """A headline figure; shares in percent."""
    if isinstance(value, int | float) and name.endswith(("accuracy", "agreement", "fraction")):
        return f"{100 * value:.2f}\N{NO-BREAK SPACE}%"
    return text(value)


def shown_path(path: Path) -> str:
    """A directory as its user would name it: from the working directory where it lies below."""
    whole, here = path.resolve(), Path.cwd().resolve()
    return (whole.relative_to(here) if whole.is_relative_to(here) else whole).as_posix()


def now() -> str:
    """The local time, to the minute."""
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")


def described(keys: Mapping[str, Any]) -> str:
    """What a run did, in a few words: ``implicit on digits``, ``active_set on digits``."""
    who = next((keys[group] for group in ("solver", "model") if keys.get(group)), None)
    where = keys.get("dataset")
    return " on ".join(str(each) for each in (who, where) if each)
