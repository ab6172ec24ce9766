"""Data sets: fetch and verify, parse, split, normalise, batch."""

from idl_cli.data.dataset import Dataset
from idl_cli.data.loader import BatchLoader
from idl_cli.data.preprocessing import Preprocessing
from idl_cli.data.split import Split
from idl_cli.data.task import Task

__all__ = ["BatchLoader", "Dataset", "Preprocessing", "Split", "Task"]
