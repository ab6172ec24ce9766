"""The process's random number generators: seeding, and their states for an exact resume.

PyTorch, NumPy and Python keep one global generator each. Batches are drawn without them (see
``data.loader``); models may use them, for initial weights and dropout.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

_NUMPY_SEEDS = 2**32  # NumPy's legacy generator takes 32 bits


def seed_everything(seed: int) -> None:
    """Seed the generators of PyTorch (all devices), NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % _NUMPY_SEEDS)  # noqa: NPY002 - the global generator itself is meant
    random.seed(seed)


def get_rng_state() -> dict[str, Any]:
    """Return the states of all generators: tensors, arrays and plain values."""
    return {
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),  # noqa: NPY002
        "python": random.getstate(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Restore what ``get_rng_state`` returned.

    States of CUDA devices that this machine does not have are left out.
    """
    torch.set_rng_state(state["torch"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    random.setstate(state["python"])
    if torch.cuda.is_available():
        for index, cuda_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(cuda_state, index)
