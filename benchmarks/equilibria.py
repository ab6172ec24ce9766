"""Equilibrium and gradient beside torchidl, torchdeq, silva-networks and optimistix.

One forward and backward of x = relu(Ax + b), b and the loss's gradient normal, float32, at ‖r‖∞ ≤
1e-5 ‖x‖∞ forward and ‖r‖∞ ≤ 1e-5 max(‖g‖∞, ‖v‖∞) backward in every sample: what is achieved, told
by one judge for all. A rival's own tolerance (torchidl: an absolute number, and its 300 iterations
at most; torchdeq and silva: their relative norm; Picard, torchdeq's Anderson, and GMRES for silva's
adjoint) is as loose as that allows, from 1e-5 on; 1e-5 where none achieves it. All are in one
process with idl: torchidl 0.0.4, torchdeq 0.1.0, silva-networks 1.2.2 and JAX's optimistix, the
last two where they are installed (``optimistix_peer``). Spectra of A:

- easy: entries of both signs, ‖A‖∞ = 0.95;
- trained: at the end of a training on scikit-learn's digits at κ = 0.99, b of its inputs;
- hard: A ≥ 0 with ρ(|A|) = 0.99 or 0.999: one slow mode; blocks of them: several; sparse: 3 % of
  the entries; tridiagonal: a continuum of slow modes.

Then operators that the others do not have: 5 % non-zeros of 2,000 states, and a convolution of 64
channels on 32 x 32 pixels. All contestants take turns in one process, in any order; medians of
processor time where one thread is used, else of wall time. Told beside: the largest residual and
error of the gradient that each achieved, the memory that a solve takes at most beyond what was
there, and the share of idl's time that its own products with A would take alone.
``equilibria_scaling`` adds how the times grow.
"""

from __future__ import annotations

import math
import random
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.equilibria_cases import (
    TOL,
    Case,
    Solve,
    convolution_case,
    fitted,
    idl,
    make_case,
    rivals,
    sparse_case,
)
from benchmarks.optimistix_peer import installed, optimistix
from idl_cli.equilibrium.operators import DenseOperator
from idl_cli.equilibrium.statistics import SolveStatistics
from idl_cli.equilibrium.step_graphs import StepGraphs

SPECTRA = (
    "easy",
    "trained",
    "hard .99",
    "hard .999",
    "blocks of 3",
    "blocks of 8",
    "sparse",
    "tridiagonal",
)
SIZES = ((20, 64), (100, 1), (100, 64), (100, 1024), (500, 256), (1000, 64))
LARGE = ((4000, 1), (4000, 64), (100, 4096))
SECONDS = 0.3  # each contestant and case; once where it takes longer
PEERS = ("torchidl", "torchdeq", "silva", "optimistix")


def _clock(case: Case) -> Callable[[], float]:
    if case.offset.is_cuda:

        def finished() -> float:
            torch.cuda.synchronize()
            return time.perf_counter()

        return finished
    return time.process_time if torch.get_num_threads() == 1 else time.perf_counter


def measure(case: Case, seconds: float = SECONDS) -> dict[str, object]:
    """Measure all contestants, in turn; one that is far behind is measured less often."""
    counts = SolveStatistics(warn=False)
    quiet = SolveStatistics(warn=False)
    contestants = {"idl": idl(case, "auto", counts), "idl picard": idl(case, "picard", quiet)}
    if case.offset.is_cuda:
        contestants["idl graphs"] = idl(case, "auto", quiet, StepGraphs())
    for name, rival in rivals(case).items():
        contestants[name] = fitted(case, rival)
    if case.operator is DenseOperator and installed() and not case.offset.is_cuda:
        contestants["optimistix"] = fitted(case, partial(optimistix, case))
    clock = _clock(case)
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    achieved, order = {}, random.Random(0)
    for name, solve in contestants.items():
        started = clock()
        x, v = solve()
        if clock() - started > seconds:
            taken[name].append(clock() - started)
        achieved[name] = (case.residual(x), case.adjoint_residual(x, v))
    while any(sum(each) < seconds for each in taken.values()):
        # After one that works on more memory all are slower.
        for name, solve in order.sample(sorted(contestants.items()), len(contestants)):
            if sum(taken[name]) < seconds:
                started = clock()
                solve()
                taken[name].append(clock() - started)
    counts.reset()
    contestants["idl"]()
    figures = counts.summary()
    products = _products(case, figures["iterations_mean"] + figures["backward_iterations_mean"])
    milliseconds = {name: 1e3 * statistics.median(each) for name, each in taken.items()}
    return {
        "milliseconds": milliseconds,
        "achieved": achieved,
        "megabytes": {
            name: _peak(solve) / 1e6
            for name, solve in contestants.items()
            if milliseconds[name] < 2e3 * SECONDS
            and name != "optimistix"  # whose memory torch does not see
            and not case.offset.is_cuda
        },
        "iterations": figures["iterations_mean"],
        "backward_iterations": figures["backward_iterations_mean"],
        "unconverged": figures["unconverged_share"] + figures["backward_unconverged_share"],
        "products_share": products / milliseconds["idl"],
        **{f"to_{peer}": _best(milliseconds, peer) / milliseconds["idl"] for peer in PEERS},
    }


def _best(milliseconds: dict[str, float], peer: str) -> float:
    """Return the time of a peer's fastest solver; NaN where none was measured."""
    times = [each for name, each in milliseconds.items() if name.partition(" ")[0] == peer]
    return min(times, default=float("nan"))


def _peak(solve: Solve) -> int:
    """Bytes that torch holds at most in a solve, beyond those it held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        solve()
    assert recorded.profiler is not None, "it has recorded"
    result = recorded.profiler.kineto_results
    events = [event for event in result.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def _products(case: Case, count: float) -> float:
    """Milliseconds of so many products with A."""
    x, out = case.offset.detach(), torch.empty_like(case.offset)
    operator = case.operator(case.parameter.detach())
    clock = _clock(case)
    operator.apply(x, x, out)
    taken: list[float] = []
    while len(taken) < 3 or (len(taken) < 30 and sum(taken) < 0.2):
        started = clock()
        for _ in range(10):
            operator.apply(x, x, out)
        taken.append(clock() - started)
    return 1e3 * statistics.median(taken) / 10 * count


def run(root: Path | None = None) -> dict[str, object]:
    """Measure and print.

    Args:
        root: not needed.

    Returns:
        The figures of each spectrum and size.
    """
    warnings.simplefilter("ignore")
    measure(make_case("hard .99", 20, 4), 0.0)  # what is imported on first use is no one's time
    rows: dict[str, dict[str, object]] = {}

    def add(name: str, states: int, samples: int, case: Case) -> None:
        row = rows[f"{name}, n {states}, batch {samples}"] = measure(case)
        print(line(name, states, samples, row), flush=True)

    for states, samples in SIZES:
        for spectrum in SPECTRA:
            add(spectrum, states, samples, make_case(spectrum, states, samples))
    for states, samples in LARGE:
        for spectrum in ("easy", "hard .99"):
            add(spectrum, states, samples, make_case(spectrum, states, samples))
    for samples in (1, 64):
        case = sparse_case(2000, samples, 0.05)
        add("5 % of A", 2000, samples, case)
        add("as dense", 2000, samples, replace(case, operator=DenseOperator))
    for norm in (0.95, 0.99):
        case = convolution_case(4, norm)
        add(f"conv {norm}", case.offset.shape[1], 4, case)
    return {"threads": torch.get_num_threads(), "tol": TOL, "rows": rows}


def table(figures: dict[str, Any]) -> str:
    """Return what ``run`` found in Markdown: times over idl's, and how exact the worst was."""
    head = ("case", "ms", *(f"x {peer}" for peer in PEERS), "products", "MB", "residual")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, row in figures["rows"].items():
        ratios = (
            "" if math.isnan(row[f"to_{peer}"]) else f"{row[f'to_{peer}']:.1f}" for peer in PEERS
        )
        cells = (
            name,
            f"{row['milliseconds']['idl']:.2f}",
            *ratios,
            f"{row['products_share']:.0%}",
            f"{row['megabytes']['idl']:.2f}" if "idl" in row["megabytes"] else "",
            f"{max(row['achieved']['idl']):.0e}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def line(spectrum: str, states: int, samples: int, row: dict[str, object]) -> str:
    """Return a row as it is printed."""
    milliseconds, megabytes = row["milliseconds"], row["megabytes"]
    assert isinstance(milliseconds, dict), "made above"
    assert isinstance(megabytes, dict), "made above"
    times = "  ".join(f"{name} {value:.2f}" for name, value in milliseconds.items())
    ratios = ", ".join(f"{row[f'to_{peer}']:.1f}x {peer}" for peer in PEERS)
    return (
        f"{spectrum:12} {states:5} {samples:5}  {times} ms  "
        f"{row['iterations']:.1f}+{row['backward_iterations']:.1f} iterations, "
        f"products {row['products_share']:.0%}, "
        f"{megabytes.get('idl', float('nan')):.2f} MB, {ratios}"
    )
