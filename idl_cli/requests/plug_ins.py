"""Hydra's launchers and sweepers that come as extras: which extra, and whether it is there."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec
from types import MappingProxyType
from typing import Final

_EXTRAS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "hydra/launcher=joblib": ("joblib", "hydra_joblib_launcher"),
        "hydra/launcher=submitit_local": ("submitit", "hydra_submitit_launcher"),
        "hydra/launcher=submitit_slurm": ("submitit", "hydra_submitit_launcher"),
        "hydra/sweeper=optuna": ("optuna", "hydra_optuna_sweeper"),
    }
)
"""Choice → the extra that brings it, the package in ``hydra_plugins`` that holds it."""

# What the Optuna plug-in (2.10) can use: its SQLite storage breaks with the next major versions.
_STUDY_STORAGE: Final = MappingProxyType({"sqlalchemy": (2, 0), "alembic": (1, 16)})


def missing_extra(choice: str) -> str | None:
    """Say what to install for ``GROUP=OPTION``; None where nothing is missing."""
    if choice not in _EXTRAS:
        return None
    extra, package = _EXTRAS[choice]
    install = f"pip install 'idl-cli[{extra}]'"
    if find_spec("hydra_plugins") is None or find_spec(f"hydra_plugins.{package}") is None:
        return f"{choice}: an extra is not installed; {install}"
    if extra == "optuna":
        for name, limit in _STUDY_STORAGE.items():
            version = metadata.version(name)
            if tuple(map(int, version.split(".")[:2])) >= limit:
                below = ".".join(map(str, limit))
                return f"{choice}: needs {name} < {below}, {version} is installed; {install}"
    return None
