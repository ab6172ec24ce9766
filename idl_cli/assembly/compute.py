"""Where a command computes: device, dtype, threads, seeds, deterministic kernels."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from idl_cli.errors import ConfigError
from idl_cli.training.randomness import seed_everything


@dataclass(frozen=True)
class Compute:
    """A device and a floating dtype.

    Attributes:
        device: where models and batches are.
        dtype: of weights and inputs.
    """

    device: torch.device
    dtype: torch.dtype


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
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = False
    seed_everything(seed)
    return Compute(resolve_device(device), getattr(torch, dtype))


def resolve_device(name: str) -> torch.device:
    """The device that a name means on this machine.

    Args:
        name: auto (the first GPU where there is one), cpu, cuda or cuda:N.

    Raises:
        ConfigError: there is no such device.
    """
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda:0" if available else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= available:
        found = f"cuda:0 to cuda:{available - 1}" if available else "no CUDA device"
        raise ConfigError([f"device={name}: torch sees {found} here; use device=auto or cpu"])
    return torch.device("cuda:0") if name == "cuda" else device
