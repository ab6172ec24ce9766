"""The run directory: the only writer of a run's files, and what reads them back.

``RunDirectory`` writes; ``load_model`` and ``load_run`` give back what a run learned. What a run
leaves behind, file by file, is described in ``directory.py``.
"""

from __future__ import annotations

from idl_cli.run.directory import CHECKPOINTS, RunDirectory, read_metrics, read_summary, run_status
from idl_cli.run.environment import collect_environment
from idl_cli.run.loading import LoadedRun, load_model, load_run

__all__ = [
    "CHECKPOINTS",
    "LoadedRun",
    "RunDirectory",
    "collect_environment",
    "load_model",
    "load_run",
    "read_metrics",
    "read_summary",
    "run_status",
]
