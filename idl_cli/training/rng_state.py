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

from idl_cli.data.randomness import Purpose, random_words

_NUMPY_SEEDS = 2**32  # NumPy's legacy generator takes 32 bits


def seed_everything(seed: int) -> None:
    """Seed the generators of PyTorch (all devices), NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % _NUMPY_SEEDS)  # noqa: NPY002 - the global generator itself is meant
    random.seed(seed)


def seed_rank(seed: int, rank: int) -> None:
    """Give a rank generators of its own, so that no two drop out the same units.

    The first rank keeps those of a single process. Call it once the weights, which all ranks draw
    alike, are drawn.
    """
    if rank > 0:
        seed_everything(int(random_words(1, Purpose.RANK, seed, rank)[0]))


def get_rng_state(device: torch.device | None = None) -> dict[str, Any]:
    """Return the states of all generators: tensors, arrays and plain values.

    Args:
        device: where the process computes: of CUDA devices, this one's generator is used.
    """
    cuda = None
    if device is not None and device.type == "cuda":
        cuda = torch.cuda.get_rng_state(device)
    return {
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),  # noqa: NPY002
        "python": random.getstate(),
        "cuda": cuda,
    }


def set_rng_state(state: Mapping[str, Any], device: torch.device | None = None) -> None:
    """Restore what ``get_rng_state`` returned.

    Args:
        state: the states.
        device: where the process computes now; a CUDA device takes over the state of the one that
            the process computed on before, if any.
    """
    torch.set_rng_state(state["torch"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    random.setstate(state["python"])
    if device is not None and device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
