"""The run directory: the only writer of a run's files, and what reads them back.

``RunDirectory`` writes; ``load_model`` and ``load_run`` give back what a run learned;
``read_record`` and ``find_runs`` what it left behind. What that is, file by file, is described in
``directory.py``.

The names are imported on first use: reading what runs left behind does not pay for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from idl_cli.run.directory import RunDirectory as RunDirectory
    from idl_cli.run.loading import LoadedRun as LoadedRun
    from idl_cli.run.loading import fitted_to as fitted_to
    from idl_cli.run.loading import load_model as load_model
    from idl_cli.run.loading import load_run as load_run
    from idl_cli.run.metrics_file import read_metrics as read_metrics
    from idl_cli.run.provenance import collect_environment as collect_environment
    from idl_cli.run.records import CHECKPOINTS as CHECKPOINTS
    from idl_cli.run.records import RunRecord as RunRecord
    from idl_cli.run.records import find_runs as find_runs
    from idl_cli.run.records import read_overrides as read_overrides
    from idl_cli.run.records import read_record as read_record
    from idl_cli.run.records import read_summary as read_summary
    from idl_cli.run.records import run_status as run_status
    from idl_cli.run.shared import mark_failed as mark_failed
    from idl_cli.run.shared import mark_interrupted as mark_interrupted

_HOMES: Final = {
    "CHECKPOINTS": "idl_cli.run.records",
    "LoadedRun": "idl_cli.run.loading",
    "RunDirectory": "idl_cli.run.directory",
    "RunRecord": "idl_cli.run.records",
    "collect_environment": "idl_cli.run.provenance",
    "find_runs": "idl_cli.run.records",
    "fitted_to": "idl_cli.run.loading",
    "load_model": "idl_cli.run.loading",
    "load_run": "idl_cli.run.loading",
    "mark_failed": "idl_cli.run.shared",
    "mark_interrupted": "idl_cli.run.shared",
    "read_metrics": "idl_cli.run.metrics_file",
    "read_overrides": "idl_cli.run.records",
    "read_record": "idl_cli.run.records",
    "read_summary": "idl_cli.run.records",
    "run_status": "idl_cli.run.records",
}

__all__ = [
    "CHECKPOINTS",
    "LoadedRun",
    "RunDirectory",
    "RunRecord",
    "collect_environment",
    "find_runs",
    "fitted_to",
    "load_model",
    "load_run",
    "mark_failed",
    "mark_interrupted",
    "read_metrics",
    "read_overrides",
    "read_record",
    "read_summary",
    "run_status",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'idl_cli.run' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
