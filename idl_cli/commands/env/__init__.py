"""``idl env``: what to paste in a bug report; with ``--check``, a self-test of the installation."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from idl_cli import __version__, registry
from idl_cli.config.options import config_directory
from idl_cli.masking import masked_text

_PACKAGES: Final = (
    "torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "cvxpy",
    "clarabel",
    "osqp",
    "scs",
    "highspy",
    "hydra-core",
    "omegaconf",
    "safetensors",
    "pooch",
    "matplotlib",
    "rich",
)
_EXTRAS: Final = (
    "hydra-joblib-launcher",
    "hydra-submitit-launcher",
    "submitit",
    "hydra-optuna-sweeper",
    "optuna",
    "tensorboard",
    "wandb",
    "mlflow",
    "mlflow-skinny",
    "trackio",
)
"""Libraries of the extras: named where they are installed."""
_MISSING: Final = "not installed"
_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "IDL_CACHE",
    "HYDRA_FULL_ERROR",
)


def main(arguments: Sequence[str]) -> int:
    """Print the environment; with ``--check`` run the self-test, whose failure is exit status 1."""
    parser = argparse.ArgumentParser(
        prog="idl env", description="Versions, devices, threads: what to paste in a bug report."
    )
    parser.add_argument("--check", action="store_true", help="also run a self-test (seconds)")
    flags = parser.parse_args(list(arguments))
    facts = environment()
    width = max(map(len, facts))
    sys.stdout.writelines(f"{key:{width}}  {masked_text(value)}\n" for key, value in facts.items())
    if not flags.check:
        return 0
    from idl_cli.commands.env.self_test import run_checks

    sys.stdout.write("\n")
    failed = 0
    for outcome in run_checks():
        verdict = "ok" if outcome.error is None else "FAILED"
        sys.stdout.write(f"{verdict:6}  {outcome.title} ({outcome.seconds:.2f} s)\n")
        if outcome.error is not None:
            failed += 1
            sys.stdout.write(f"        {outcome.error}\n")
        sys.stdout.flush()
    return 1 if failed else 0


def completions(words: Sequence[str], current: str) -> list[str]:
    """What the last word can become: the flag."""
    del words, current
    return ["--check "]


def environment() -> Mapping[str, str]:
    """What the behaviour of ``idl`` on this machine may depend on, in words."""
    import torch

    from idl_cli.data.files.fetch import cache_directory

    facts = {
        "idl": __version__,
        "installed at": str(Path(__file__).resolve().parents[2]),
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "cores": str(os.cpu_count()),
        "threads": f"{torch.get_num_threads()} within an operation of torch, "
        f"{torch.get_num_interop_threads()} between operations",
        "devices": ", ".join(_devices()),
        "cuda": str(torch.version.cuda),
    }
    facts.update({name: _version(name) for name in _PACKAGES})
    extras = {name: _version(name) for name in _EXTRAS}
    facts.update({name: found for name, found in extras.items() if found != _MISSING})
    facts.update({name: os.environ[name] for name in _VARIABLES if name in os.environ})
    facts["configs"] = str(config_directory())
    facts["data cache"] = str(cache_directory())
    plug_ins = (
        f"{group}={name} ({entry.value})"
        for group in registry.groups()
        for name, entry in registry.plug_ins(group).items()
    )
    facts["plug-ins"] = ", ".join(plug_ins) or "none"
    return facts


def _devices() -> Iterator[str]:
    import torch

    yield "cpu"
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        yield f"cuda:{index} {properties.name} ({properties.total_memory / 2**30:.0f} GiB)"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return _MISSING
