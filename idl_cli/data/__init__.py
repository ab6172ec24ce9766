"""Data sets: fetch and verify, parse, split, normalise, batch; names are imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from idl_cli.data.dataset import Dataset as Dataset
    from idl_cli.data.loader import BatchLoader as BatchLoader
    from idl_cli.data.preprocessing import Preprocessing as Preprocessing
    from idl_cli.data.split import Split as Split
    from idl_cli.data.task import Task as Task

_HOMES: Final = {
    "BatchLoader": "idl_cli.data.loader",
    "Dataset": "idl_cli.data.dataset",
    "Preprocessing": "idl_cli.data.preprocessing",
    "Split": "idl_cli.data.split",
    "Task": "idl_cli.data.task",
}

__all__ = ["BatchLoader", "Dataset", "Preprocessing", "Split", "Task"]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'idl_cli.data' has no attribute {name!r}")
