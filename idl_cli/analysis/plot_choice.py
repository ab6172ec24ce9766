"""Which plots show what varied among some runs: a curve, a heat map, bars, trade-offs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from matplotlib.figure import Figure

from idl_cli.analysis.comparison import Entry, metric_of, varying_keys
from idl_cli.analysis.heat_maps import heat_maps
from idl_cli.analysis.ranking import reported_beside
from idl_cli.analysis.series import (
    Series,
    is_number,
    label_of,
    points_of,
    series_of,
)
from idl_cli.analysis.sweep_plots import bars, curves, scatter_panels, seeds_plot, trade_off

_SEED = "seed"
_NONZERO = "sim.nonzero_fraction"
_TEACHER = "sim.teacher_test_accuracy"
_SIM_SECONDS = ("sim.seconds_ab", "sim.seconds_cd")


@dataclass(frozen=True)
class Plot:
    """A figure of a comparison.

    Attributes:
        name: of its file, without suffix.
        caption: what it shows, one sentence.
        figure: drawn.
    """

    name: str
    caption: str
    figure: Figure


@dataclass(frozen=True)
class Variation:
    """What varies among completed runs that all have the metric.

    Attributes:
        metric: what is judged by.
        entries: the runs.
        numeric: keys whose values are all numbers.
        categorical: other keys but the seed.
        seeds: whether the seed varies.
    """

    metric: str
    entries: Sequence[Entry]
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    seeds: bool


def choose_plots(entries: Sequence[Entry], metric: str | None = None) -> list[Plot]:
    """Draw what varied among the runs.

    One numeric key gives a curve (a line a combination of the other keys), two a heat map, more a
    panel each; without one there are bars. State-driven runs are also shown against the share of
    non-zero weights, and runs of different components against the time they took.

    Args:
        entries: the runs; those that did not complete, or lack the metric, are left out.
        metric: what runs are ranked by; None for ``metric_of``.

    Returns:
        The plots; none where nothing varied or fewer than two runs completed.
    """
    varied = variation(entries, metric)
    if varied is None:
        return []
    return [*_of_keys(varied), *_trade_offs(varied)]


def variation(entries: Sequence[Entry], metric: str | None = None) -> Variation | None:
    """What varies; None where there is nothing to compare."""
    done = [entry for entry in entries if entry.completed]
    metric = metric or metric_of(done)
    done = [entry for entry in done if is_number(entry.figures.get(metric or ""))]
    if metric is None or len(done) < 2:
        return None
    keys = _independent([key for key in varying_keys(done) if key != _SEED], done)
    numeric = tuple(
        key for key in keys if all(is_number(e.keys[key]) for e in done if key in e.keys)
    )
    commands = {entry.command for entry in done}
    categorical = tuple(key for key in keys if key not in numeric)
    return Variation(
        metric=metric,
        entries=done,
        numeric=numeric,
        categorical=categorical if len(commands) == 1 else ("command", *categorical),
        seeds=len({entry.keys.get(_SEED) for entry in done}) > 1,
    )


def _independent(keys: Sequence[str], entries: Sequence[Entry]) -> list[str]:
    """Keys without those that only repeat another one, such as a λ_y that was set to λ_z."""
    kept: dict[tuple[int, ...], str] = {}
    for key in keys:
        values = [repr(entry.keys.get(key)) for entry in entries]
        first = {value: values.index(value) for value in values}
        kept.setdefault(tuple(first[value] for value in values), key)
    return list(kept.values())


def _of_keys(varied: Variation) -> Iterator[Plot]:
    metric, entries = varied.metric, varied.entries
    of_seeds = ", mean ± deviation over seeds" if varied.seeds else ""
    if len(varied.numeric) == 1:
        (key,) = varied.numeric
        lines = series_of(entries, key, metric, varied.categorical)
        caption = f"{label_of(metric)} against {key}{of_seeds}"
        yield Plot("curve", caption, curves(lines, key, metric))
    elif len(varied.numeric) == 2 and (both := _with_all(entries, varied.numeric)):
        first, second = varied.numeric
        maps = heat_maps(both, first, second, metric, varied.categorical)
        yield Plot("heat_map", f"{label_of(metric)} by {first} and {second}{of_seeds}", maps)
    elif varied.numeric:
        caption = f"{label_of(metric)} of every run against each key"
        yield Plot("keys", caption, scatter_panels(entries, varied.numeric, metric))
    elif varied.categorical:
        keys = " and ".join(varied.categorical)
        caption = f"{label_of(metric)} by {keys}{of_seeds}"
        yield Plot("bars", caption, bars(entries, varied.categorical, metric))
    elif varied.seeds:
        yield Plot("seeds", f"{label_of(metric)} of every seed", seeds_plot(entries, metric))


def _with_all(entries: Sequence[Entry], keys: Sequence[str]) -> list[Entry]:
    """The runs that have all of some numeric keys; runs of different commands may have none."""
    return [entry for entry in entries if all(is_number(entry.keys.get(key)) for key in keys)]


def _trade_offs(varied: Variation) -> Iterator[Plot]:
    """Trade-offs choose no run, so they show the test part, on which the teacher is known too."""
    entries = varied.entries
    tested = reported_beside(varied.metric, (entry.figures for entry in entries))
    if tested is not None and all(is_number(entry.figures.get(tested)) for entry in entries):
        varied = replace(varied, metric=tested)
    metric, teacher = varied.metric, None
    if metric == "test_accuracy":
        found = {entry.figures.get(_TEACHER) for entry in entries}
        only = next(iter(found)) if len(found) == 1 else None
        teacher = float(only) if isinstance(only, int | float) else None
    sparse = _points(varied, lambda entry: entry.figures.get(_NONZERO), scale=100)
    if _distinct(sparse) > 1:
        caption = f"{label_of(metric)} against the share of weights that are not zero"
        label = "weights that are not zero (%)"
        joined = len(varied.numeric) == 1 and not varied.seeds
        figure = trade_off(sparse, metric, label, joined=joined, reference=teacher)
        yield Plot("sparsity", caption, figure)
    timed = _points(varied, _seconds)
    if varied.categorical and _distinct(timed) > 1:
        in_solver = all(name in entry.figures for entry in entries for name in _SIM_SECONDS)
        label = "time in the solver (s)" if in_solver else "time of the run (s)"
        caption = f"{label_of(metric)} against the {label}"
        figure = trade_off(timed, metric, label, joined=False, reference=teacher)
        yield Plot("time", caption, figure)


def _seconds(entry: Entry) -> object:
    """Seconds of the solver in both stages, else of the whole run."""
    parts = [entry.figures.get(name) for name in _SIM_SECONDS]
    if all(is_number(part) for part in parts):
        return sum(float(str(part)) for part in parts)
    return entry.figures.get("seconds")


def _points(
    varied: Variation, position: Callable[[Entry], object], scale: float = 1
) -> list[Series]:
    return points_of(varied.entries, position, varied.metric, varied.categorical, scale)


def _distinct(lines: Sequence[Series]) -> int:
    return len({point.x for line in lines for point in line.points})
