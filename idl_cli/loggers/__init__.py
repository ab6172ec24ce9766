"""Where a run's figures go: into ``metrics.jsonl``, and where else the user wants them.

Names are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from idl_cli.loggers.base import JsonlLogger as JsonlLogger
    from idl_cli.loggers.base import MetricLogger as MetricLogger
    from idl_cli.loggers.base import RunFacts as RunFacts
    from idl_cli.loggers.run_logger import RunLogger as RunLogger
    from idl_cli.loggers.run_logger import open_logger as open_logger

_HOMES: Final = {
    "JsonlLogger": "idl_cli.loggers.base",
    "MetricLogger": "idl_cli.loggers.base",
    "RunFacts": "idl_cli.loggers.base",
    "RunLogger": "idl_cli.loggers.run_logger",
    "open_logger": "idl_cli.loggers.run_logger",
}

__all__ = ["JsonlLogger", "MetricLogger", "RunFacts", "RunLogger", "open_logger"]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'idl_cli.loggers' has no attribute {name!r}")
