"""``sweep.html``: the jobs of a sweep on one page, with plots chosen from what varied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from idl_cli import __version__
from idl_cli.analysis.columns import cells, columns_of, headings, is_numeric
from idl_cli.analysis.comparison import Entry, averaged, ranked, value_of, varying_keys
from idl_cli.analysis.pages import Cell, Fact, Page, Picture, Table, render
from idl_cli.analysis.plot_choice import choose_plots
from idl_cli.reports.entries import Schemas
from idl_cli.reports.run_page import REPORT, pictures
from idl_cli.reports.sections import (
    changed_facts,
    configuration_facts,
    duration,
    environment_facts,
    now,
    score,
    shown_path,
)
from idl_cli.run.files import write_atomic, write_figure
from idl_cli.sweeps.jobs import NOT_STARTED

SWEEP_PAGE: Final = "sweep.html"
_CAPTIONS: Final = {"extrapolation": "Error against the distance from the training range"}


def write_sweep_page(
    directory: Path,
    entries: Sequence[Entry],
    metric: str | None,
    waiting: Sequence[int],
    schemas: Schemas,
) -> None:
    """Write ``sweep.html`` and its plots.

    Args:
        directory: of the sweep.
        entries: its jobs that were started, the best first.
        metric: what they are ranked by.
        waiting: the jobs that were never started.
        schemas: of commands and components.
    """
    wanted = [entry.keys["report"] for entry in entries if "report" in entry.keys]
    if not entries or (wanted and not any(wanted)):
        return
    plots = choose_plots(entries, metric)
    for plot in plots:
        write_figure(directory / f"{plot.name}.png", plot.figure)
    captions = {plot.name: plot.caption[0].upper() + plot.caption[1:] for plot in plots}
    drawn = pictures(directory, {**captions, **_CAPTIONS})
    page = _page(directory, entries, metric, drawn, waiting, schemas)
    write_atomic(directory / SWEEP_PAGE, page.encode())


def _page(
    directory: Path,
    entries: Sequence[Entry],
    metric: str | None,
    drawn: Sequence[Picture],
    waiting: Sequence[int],
    schemas: Schemas,
) -> str:
    """The page.

    Args:
        directory: of the sweep.
        entries: its jobs, the best first.
        metric: what they are ranked by.
        drawn: its figures.
        waiting: the jobs that were never started.
        schemas: of commands and components.
    """
    first = entries[0]
    varying = varying_keys(entries)
    told = [entry.keys for entry in entries if entry.keys]  # of a damaged job nothing is known
    same = {
        key: value
        for key, value in (told[0].items() if told else ())
        if all(key in keys and keys[key] == value for keys in told)
    }
    whole = not waiting and all(entry.completed for entry in entries)
    on = f" on {same['dataset']}" if same.get("dataset") else ""
    return render(
        Page(
            kind=f"idl {first.command} -m" if first.command else "idl -m",
            title=(" × ".join(headings(varying)) or f"{len(entries)} jobs") + on,
            subtitle=f"{shown_path(directory)} · {now()}",
            status="completed" if whole else "incomplete",
            version=__version__,
            headline=list(_headline(entries, metric, varying, len(waiting))),
            error="\n".join(_failures(entries, waiting)) or None,
            tables=list(_tables(directory, entries, metric, varying)),
            pictures=drawn,
            changed=[
                fact for fact in changed_facts(first.command, same, schemas) if fact.label in same
            ],
            configuration=configuration_facts(same),
            environment=environment_facts(Path(first.path)),
        )
    )


def _headline(
    entries: Sequence[Entry], metric: str | None, varying: Sequence[str], waiting: int
) -> Iterator[Fact]:
    counts = Counter(entry.status for entry in entries)
    if waiting:
        counts[NOT_STARTED] = waiting
    said = ", ".join(f"{count} {status}" for status, count in counts.items())
    yield Fact("jobs", str(len(entries) + waiting), said)
    best = entries[0]
    if metric is not None and best.completed:
        what = ", ".join(cells(best, varying))
        yield Fact(
            f"best {_words(metric)}", score(metric, best.figures.get(metric)), f"job {best.run}"
        )
        if what:
            yield Fact(" × ".join(headings(varying)), what, f"of job {best.run}")
        for name in ("test_accuracy", "test_r2", "test_mse"):
            if name in best.figures and name != metric:
                value = score(name, best.figures[name])
                yield Fact(_words(name), value, f"of job {best.run}")
    seconds = [entry.figures.get("seconds") for entry in entries]
    total = sum(float(value) for value in seconds if isinstance(value, int | float))
    yield Fact("time of all jobs", duration(total))


def _failures(entries: Sequence[Entry], waiting: Sequence[int]) -> Iterator[str]:
    for entry in entries:
        if not entry.completed:
            yield f"job {entry.run} {entry.status}" + (f": {entry.error}" if entry.error else "")
    for number in waiting:
        yield f"job {number} {NOT_STARTED}"


def _tables(
    directory: Path, entries: Sequence[Entry], metric: str | None, varying: Sequence[str]
) -> Iterator[Table]:
    if "seed" in varying and len(varying) > 1:
        means = ranked(averaged(entries, ["seed"]), metric)
        yield _table("Mean ± deviation over seeds", means, metric, None, over=["seed"])
    title = "Jobs" if metric is None else f"Jobs, best {_words(metric)} first"
    yield _table(title, entries, metric, directory)


def _table(
    title: str,
    entries: Sequence[Entry],
    metric: str | None,
    directory: Path | None,
    over: Sequence[str] = (),
) -> Table:
    """The lines as a table; in a directory each job links to its own report."""
    names = list(columns_of(entries, over).shown)
    if metric is not None and metric not in names:
        place = next((i for i, name in enumerate(names) if name.startswith("test_")), len(names))
        names.insert(place, metric)
    rows = [
        [
            Cell(said, "" if directory is None or name != "run" else _link(directory, entry.run))
            for name, said in zip(names, cells(entry, names), strict=True)
        ]
        for entry in entries
    ]
    keys = {key for entry in entries for key in entry.keys}
    heads = [
        "job" if name == "run" and directory else head if name in keys else _words(head)
        for name, head in zip(names, headings(names), strict=True)
    ]
    best = 0 if metric is not None and value_of(entries[0], metric) is not None else None
    return Table(title, heads, rows, [is_numeric(name, entries) for name in names], best)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _link(directory: Path, job: str) -> str:
    """A job's report relative to the sweep's; its directory where it has none."""
    return f"{job}/{REPORT}" if (directory / job / REPORT).exists() else f"{job}/"
