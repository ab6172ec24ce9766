import random

import numpy as np
import torch

from idl_cli.training.rng_state import get_rng_state, seed_everything, set_rng_state


def _draw() -> tuple[float, float, float]:
    return torch.rand(1).item(), float(np.random.rand()), random.random()  # noqa: NPY002


def test_a_seed_fixes_all_generators() -> None:
    seed_everything(2**40 + 7)
    first = [_draw() for _ in range(3)]
    seed_everything(2**40 + 7)
    assert [_draw() for _ in range(3)] == first
    seed_everything(8)
    assert [_draw() for _ in range(3)] != first


def test_a_saved_state_continues_the_streams() -> None:
    seed_everything(0)
    _draw()
    state = get_rng_state()
    expected = [_draw() for _ in range(3)]
    seed_everything(1)
    set_rng_state(state)
    assert [_draw() for _ in range(3)] == expected
