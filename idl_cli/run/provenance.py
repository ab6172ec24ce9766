"""What the figures of a run may depend on beside its configuration."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from idl_cli.masking import masked

_PACKAGES = (
    "idl-cli",
    "torch",
    "numpy",
    "scipy",
    "cvxpy",
    "scikit-learn",
    "hydra-core",
    "omegaconf",
    "safetensors",
)
_GIT_TIMEOUT = 5.0  # seconds; a repository on a dead network drive must not hold a run up


def collect_environment(
    device: torch.device | str = "cpu", command: str | None = None
) -> dict[str, object]:
    """Return versions, git revision, device and threads, as plain JSON values.

    Args:
        device: that the run computes on.
        command: the sub-command; None for a run of a Python caller.
    """
    device = torch.device(device)
    return {
        # Hydra is handed the arguments without the sub-command.
        "command_line": masked(sys.argv if command is None else ["idl", command, *sys.argv[1:]]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "git": _git_revision(),
        "device": str(device),
        "device_name": (
            torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
        ),
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "cpu_count": os.cpu_count(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> dict[str, object] | None:
    """Return the revision of the checkout that this package is run from, None outside one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        revision = _git(root, "rev-parse", "HEAD")
        return {"revision": revision, "modified": bool(_git(root, "status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments],
        capture_output=True,
        text=True,
        timeout=_GIT_TIMEOUT,
        check=True,
    )
    return done.stdout.strip()
