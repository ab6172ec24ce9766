"""Runs side by side: in which keys they differ, in which order they stand, means over some keys.

Everything here works on plain values, so that runs of any age and origin can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any, Final

from idl_cli.analysis.ranking import is_higher_better, ranking_metric

COMPLETED: Final = "completed"


@dataclass(frozen=True)
class Entry:
    """One run, or several that differ in some keys only, as a line of a comparison.

    Attributes:
        run: what it is called.
        path: its directory.
        status: how it ended.
        command: the sub-command that made it.
        keys: its configuration, dotted key → value; a component's name stands under its group.
        figures: its results, dotted name → number or word; ``Spread`` over several runs.
        error: what went wrong.
        runs: how many completed runs the figures are taken over.
        failed: how many runs beside these did not complete.
        aside: those of its keys that tell no two runs apart.
    """

    run: str
    path: str
    status: str
    command: str | None = None
    keys: Mapping[str, object] = field(default_factory=dict)
    figures: Mapping[str, object] = field(default_factory=dict)
    error: str | None = None
    runs: int = 1
    failed: int = 0
    aside: frozenset[str] = frozenset()

    @property
    def completed(self) -> bool:
        """Whether it has results."""
        return self.status == COMPLETED


@dataclass(frozen=True)
class Spread:
    """A figure over several runs.

    Attributes:
        mean: over the runs.
        deviation: of a sample, with runs - 1 in the denominator; None for a single run.
    """

    mean: float
    deviation: float | None


def flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Nested sections as dotted keys; ``name`` of a component stands under the section's own key.

    Lists stay values. ``solver: {name: admm, rho: 1}`` becomes ``solver=admm``, ``solver.rho=1``.
    """
    flat: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        elif key == "name" and prefix:
            flat[prefix[:-1]] = value
        else:
            flat[f"{prefix}{key}"] = tuple(value) if isinstance(value, list) else value
    return flat


def figures_in(summary: Mapping[str, object]) -> dict[str, object]:
    """Every number and word of a run's summary: metrics under their own names, sections dotted."""
    metrics = summary.get("metrics")
    found = dict(_leaves(metrics)) if isinstance(metrics, Mapping) else {}
    for key, value in summary.items():
        if isinstance(value, Mapping) and key != "metrics":
            found.update(_leaves(value, f"{key}."))
    if isinstance(summary.get("seconds"), int | float):
        found["seconds"] = summary["seconds"]
    return found


def _leaves(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        elif isinstance(value, str | int | float):
            yield f"{prefix}{key}", value


def varying_keys(entries: Sequence[Entry]) -> list[str]:
    """The keys that tell the runs apart, in the order of the configuration.

    A key that only follows from the choice of its component is left out: ``solver.rho`` where
    ``admm`` alone has it, or where each solver has its own default.
    """
    order = dict.fromkeys(key for entry in entries for key in entry.keys if key not in entry.aside)
    found = [key for key in order if _varies(key, entries)]
    first = [key for key in found if "." not in key and key != "seed"]
    rest = [key for key in found if "." in key]
    return [*first, *rest, *(["seed"] if "seed" in found else [])]


def _varies(key: str, entries: Sequence[Entry]) -> bool:
    section = key.partition(".")[0]
    by_component: dict[object, set[object]] = {}
    for entry in entries:
        if key in entry.keys:
            component = entry.keys.get(section) if section != key else None
            by_component.setdefault(_hashable(component), set()).add(_hashable(entry.keys[key]))
    return any(len(values) > 1 for values in by_component.values())


def _hashable(value: object) -> object:
    """A value that equals another one of the same meaning; 1, 1.0 and true are three to YAML."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, list | tuple):
        return tuple(map(_hashable, value))
    return repr(value) if isinstance(value, Mapping) else value


def metric_of(entries: Sequence[Entry]) -> str | None:
    """What runs are ranked by: the ``optimized_metric`` that all name, else ``ranking_metric``."""
    named = {entry.keys.get("optimized_metric") for entry in entries}
    only = named.pop() if len(named) == 1 else None
    wanted = only if isinstance(only, str) else None
    return ranking_metric((entry.figures for entry in entries), wanted)


def ordered(
    entries: Sequence[Entry], key: str | None = None, *, descending: bool | None = None
) -> list[Entry]:
    """The runs sorted by a key or figure: numbers, behind them words, behind them the others.

    Those without it, or with NaN, stay in the order they came in.

    Args:
        entries: the runs.
        key: what to sort by; None for what runs are ranked by.
        descending: None for the best first where it is known what is good, else ascending.
    """
    key = metric_of(entries) if key is None else key
    if key is None:
        return list(entries)
    if descending is None:
        descending = is_higher_better(key) is True
    numbered = [entry for entry in entries if math.isfinite(_number(value_of(entry, key)))]
    worded = [entry for entry in entries if _is_word(value_of(entry, key))]
    numbered.sort(key=lambda each: _number(value_of(each, key)), reverse=descending)
    worded.sort(key=lambda each: str(value_of(each, key)), reverse=descending)
    sorted_out = {id(entry) for entry in (*numbered, *worded)}
    return [*numbered, *worded, *(entry for entry in entries if id(entry) not in sorted_out)]


def ranked(entries: Sequence[Entry], metric: str | None = None) -> list[Entry]:
    """The runs with the best first; those that did not complete stand last.

    Args:
        entries: the runs.
        metric: what to rank by; None for ``metric_of``.
    """
    return sorted(ordered(entries, metric), key=lambda entry: not entry.completed)


def _number(value: object) -> float:
    """A value to sort by; NaN for what is no number."""
    if isinstance(value, Spread):
        return value.mean
    return float(value) if isinstance(value, int | float) else math.nan


def _is_word(value: object) -> bool:
    return value is not None and not isinstance(value, Spread | int | float)


def value_of(entry: Entry, column: str) -> object:
    """What a run has in a column; None where it has nothing."""
    own: Mapping[str, object] = {
        "run": entry.run,
        "status": entry.status,
        "command": entry.command,
        "error": entry.error,
        "runs": entry.runs,
        "failed": entry.failed,
        "dir": entry.path,
    }
    for values in (own, entry.keys, entry.figures):
        if column in values:
            return values[column]
    return None


def averaged(entries: Sequence[Entry], over: Collection[str]) -> list[Entry]:
    """Combine the completed runs that differ in the keys of ``over`` alone.

    Numbers become their ``Spread``, words stay where all agree. Runs that did not complete are
    counted, and stand by themselves where no run of their kind completed.
    """
    told = [key for key in varying_keys(entries) if key not in over]
    kinds: dict[object, list[Entry]] = {}
    for entry in entries:
        kind = (entry.command, *(_hashable(entry.keys.get(key)) for key in told))
        kinds.setdefault(kind, []).append(entry)
    return [each for members in kinds.values() for each in _combined(members, over)]


def _combined(members: Sequence[Entry], over: Collection[str]) -> Iterator[Entry]:
    done = [entry for entry in members if entry.completed]
    if not done:
        yield from members
        return
    names = dict.fromkeys(name for entry in done for name in entry.figures)
    figures = {name: _spread([entry.figures.get(name) for entry in done]) for name in names}
    yield Entry(
        run=done[0].run if len(done) == 1 else f"{len(done)} runs",
        path=done[0].path if len(done) == 1 else ", ".join(entry.path for entry in done),
        status=COMPLETED,
        command=done[0].command,
        keys={key: value for key, value in done[0].keys.items() if key not in over},
        figures={name: value for name, value in figures.items() if value is not None},
        error="; ".join(f"{each.run}: {each.error}" for each in members if each.error) or None,
        runs=len(done),
        failed=len(members) - len(done),
        aside=done[0].aside,
    )


def _spread(values: Sequence[object]) -> object:
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) == len(values) and all(map(math.isfinite, numbers)):
        return Spread(fmean(numbers), stdev(numbers) if len(numbers) > 1 else None)
    return values[0] if len(set(map(_hashable, values))) == 1 else None


def numbers(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return all numbers of a nested section, their keys joined by dots."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found.update(numbers(value, f"{prefix}{key}."))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{key}"] = value
    return found
