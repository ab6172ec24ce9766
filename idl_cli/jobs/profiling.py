"""A run under torch.profiler: which operations take the time, as a table and as a trace."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch
from torch.profiler import ProfilerActivity, profile

from idl_cli.reporting import Reporter
from idl_cli.run import RunDirectory

TABLE: Final = "profile.txt"
TRACE: Final = "profile.json"
_ROWS = 40
_SHOWN = 8


@contextmanager
def profiled(directory: RunDirectory, console: Reporter) -> Iterator[None]:
    """Profile what is done inside; a failed run leaves no profile.

    Args:
        directory: gets ``profile.txt``, operations by their own time, and ``profile.json``, a trace
            that chrome://tracing and ui.perfetto.dev show.
        console: shown the operations that take most.
    """
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities, acc_events=True) as seen:
        yield
    order = f"self_{'cuda' if len(activities) > 1 else 'cpu'}_time_total"
    averages = seen.key_averages()
    directory.write_text(TABLE, averages.table(sort_by=order, row_limit=_ROWS))
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / TRACE
        seen.export_chrome_trace(str(trace))
        directory.write_text(TRACE, trace.read_text(encoding="utf-8"))
    events = sorted(averages, key=lambda event: -event.self_cpu_time_total)
    console.table(
        f"operations by their own time on the CPU (more in {TABLE})",
        ["operation", "calls", "own seconds", "seconds"],
        [
            (each.key, each.count, each.self_cpu_time_total / 1e6, each.cpu_time_total / 1e6)
            for each in events[:_SHOWN]
        ],
    )
