"""How the time of an equilibrium and its gradient grows with n, the batch and 1/(1 − ρ).

Each series changes one of them in the cases of ``equilibria``; an exponent is the slope of a
straight line through the logarithms of the last four points. A contestant that takes more than
five seconds is left out of what is larger. Draws ``results/equilibria_scaling.png``.
"""

from __future__ import annotations

import math
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.equilibria_cases import Case, Solve, fitted, idl, make_case, rivals
from idl_cli.equilibrium.statistics import SolveStatistics

RESULTS = Path(__file__).parent / "results"
LIMIT = 5.0  # seconds
POINTS = 4
SERIES: dict[str, list[tuple[float, str, int, int]]] = {
    "n, batch 64, easy": [(n, "easy", n, 64) for n in (20, 50, 100, 200, 500, 1000, 2000, 4000)],
    "n, batch 64, hard .99": [
        (n, "hard .99", n, 64) for n in (20, 50, 100, 200, 500, 1000, 2000, 4000)
    ],
    "batch, n 100, easy": [(m, "easy", 100, m) for m in (1, 4, 16, 64, 256, 1024, 4096)],
    "batch, n 100, hard .99": [(m, "hard .99", 100, m) for m in (1, 4, 16, 64, 256, 1024, 4096)],
    "1/(1 - rho), n 100, batch 64": [
        (1 / (1 - float(rho)), f"hard {rho}", 100, 64)
        for rho in (".9", ".97", ".99", ".997", ".999", ".9997")
    ],
}


def run(root: Path | None = None) -> dict[str, object]:
    """Measure, print, and draw.

    Args:
        root: not needed.

    Returns:
        Of each series and contestant the points (what changes, milliseconds) and the exponent.
    """
    warnings.simplefilter("ignore")
    for make in contestants(make_case("easy", 20, 4)).values():
        make()()
    figures: dict[str, dict[str, dict[str, object]]] = {}
    for name, cases in SERIES.items():
        points: dict[str, list[tuple[float, float]]] = {}
        late: set[str] = set()
        for value, spectrum, states, samples in cases:
            for who, make in contestants(make_case(spectrum, states, samples)).items():
                if who in late:
                    continue
                seconds = _seconds(make())
                points.setdefault(who, []).append((value, 1e3 * seconds))
                if seconds > LIMIT:
                    late.add(who)
        figures[name] = {
            who: {"points": each, "exponent": exponent(each)} for who, each in points.items()
        }
        slopes = ", ".join(f"{who} {each['exponent']:.2f}" for who, each in figures[name].items())
        print(f"{name:30} exponents: {slopes}", flush=True)
    RESULTS.mkdir(exist_ok=True)
    _draw(figures)
    return {"threads": torch.get_num_threads(), "series": figures}


def contestants(case: Case) -> dict[str, Callable[[], Solve]]:
    """Return what makes who solves a case: a rival is fitted to it."""
    return {
        "idl": lambda: idl(case, "auto", SolveStatistics(warn=False)),
        **{name: partial(fitted, case, rival) for name, rival in rivals(case).items()},
    }


def _seconds(solve: Solve) -> float:
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    taken: list[float] = []
    while sum(taken) < 0.3 and len(taken) < 9:
        started = clock()
        solve()
        taken.append(clock() - started)
    return statistics.median(taken)


def exponent(points: list[tuple[float, float]]) -> float:
    """Return the slope of log time against the logarithm of what changes, by least squares."""
    last = [(math.log(x), math.log(y)) for x, y in points[-POINTS:]]
    if len(last) < 2:
        return math.nan
    slope, _ = statistics.linear_regression(*zip(*last, strict=True))
    return slope


def table(figures: dict[str, Any]) -> str:
    """Return the exponents that ``run`` found, in Markdown."""
    series_of: dict[str, dict[str, dict[str, object]]] = figures["series"]
    names = list(dict.fromkeys(who for series in series_of.values() for who in series))
    lines = ["| time grows with | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for name, series in series_of.items():
        cells = [f"{series[who]['exponent']:.2f}" if who in series else "" for who in names]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _draw(figures: dict[str, dict[str, dict[str, object]]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(figures), 5), layout="constrained")
    for axes, (name, series) in zip(figure.subplots(1, len(figures)), figures.items(), strict=True):
        for who, each in series.items():
            points = each["points"]
            assert isinstance(points, list), "made above"
            axes.loglog(
                *zip(*points, strict=True), marker="o", label=f"{who} ({each['exponent']:.2f})"
            )
        axes.set(title=name, xlabel=name.partition(",")[0], ylabel="ms, forward + backward")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, title="exponent")
    figure.savefig(RESULTS / "equilibria_scaling.png", dpi=120)
