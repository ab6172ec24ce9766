"""Where a command computes: device, dtype, threads, seeds, deterministic kernels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from idl_cli.config.schemas.root import TrainingSettings
from idl_cli.distributed.devices import resolve_device
from idl_cli.distributed.group import Group, current
from idl_cli.reporting import Reporter
from idl_cli.run import RunDirectory
from idl_cli.training.rng_state import seed_everything

SettingsT = TypeVar("SettingsT", covariant=True)
_Training = TypeVar("_Training", bound=TrainingSettings)


@dataclass(frozen=True)
class Compute:
    """A device and a floating dtype.

    Attributes:
        device: where models and batches are.
        dtype: of weights and inputs.
    """

    device: torch.device
    dtype: torch.dtype


@dataclass(frozen=True)
class RunContext(Generic[SettingsT]):
    """What a command works with from beginning to end.

    Attributes:
        settings: checked.
        compute: device and dtype.
        group: the ranks that work together; of a process alone, a group of one.
        directory: of the run, locked.
        console: told what happens.
    """

    settings: SettingsT
    compute: Compute
    group: Group
    directory: RunDirectory
    console: Reporter


def begin(settings: _Training, directory: RunDirectory, console: Reporter) -> RunContext[_Training]:
    """Set the process up for a training, as one of the ranks that its launcher has started.

    Arguments as of ``RunContext``; raises what ``prepare`` does.
    """
    compute = prepare(
        device=settings.device,
        dtype=settings.dtype,
        seed=settings.seed,
        threads=settings.threads,
        deterministic=settings.deterministic,
    )
    return RunContext(settings, compute, current(compute.device), directory, console)


def prepare(
    *,
    device: str,
    dtype: str,
    seed: int,
    threads: int | None = None,
    deterministic: bool = False,
) -> Compute:
    """Set the process up for one job and say where it computes.

    Everything is set anew each time, so that a job of a sweep inherits nothing from the one
    before it in the same process.

    Args:
        device: auto, cpu, cuda or cuda:N.
        dtype: float32 or float64.
        seed: of all generators.
        threads: of torch on the CPU; None leaves torch's choice.
        deterministic: whether to refuse kernels whose result may vary.

    Raises:
        ConfigError: there is no such device.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    if deterministic:
        # cuBLAS reads this when it starts; without it torch refuses its matrix products.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if torch.get_deterministic_debug_mode() != (2 if deterministic else 0):
        # Even to set what is set imports torch's compiler, which takes as long as torch itself.
        torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = False
    seed_everything(seed)
    return Compute(resolve_device(device), getattr(torch, dtype))
