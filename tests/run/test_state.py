import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from idl_cli.errors import RunError
from idl_cli.run.state import read_state, read_tensors, write_state, write_tensors


def assert_same(first: Any, second: Any) -> None:
    """Equal values, equal types, tensors equal to the bit."""
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert list(first) == list(second)
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    elif isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype
        assert first.shape == second.shape
        assert (
            first.contiguous()
            .view(-1)
            .view(torch.uint8)
            .equal(second.contiguous().view(-1).view(torch.uint8))
        )
    elif isinstance(first, np.ndarray):
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)
    elif isinstance(first, float):
        assert repr(first) == repr(second)
    else:
        assert first == second


def test_nested_state_comes_back_to_the_bit(tmp_path: Path) -> None:
    state = {
        "numbers": [1, 2**80, 0.1, -0.0, math.nan, math.inf, True, None, "text"],
        0: {"int key": (1, (2.5, "x"))},
        "tensors": [
            torch.tensor([1.0, math.nan, -0.0]),
            torch.tensor(3, dtype=torch.int64),
            torch.zeros(0, 3),
            torch.arange(6.0).reshape(2, 3).t(),
            torch.tensor([True, False]),
            torch.tensor([1.5], dtype=torch.bfloat16),
        ],
        "array": np.arange(4, dtype=np.uint32),
        "empty": [{}, [], ()],
    }
    write_state(tmp_path / "state.safetensors", state)
    assert_same(read_state(tmp_path / "state.safetensors"), state)


def test_equal_states_are_equal_files(tmp_path: Path) -> None:
    state = {"weights": torch.arange(5.0), "step": 3, "names": ["a", "b"]}
    contents = set()
    for number in range(8):  # an order drawn at random would show with probability 1 - 1/6^7
        write_state(tmp_path / f"{number}.safetensors", state)
        contents.add((tmp_path / f"{number}.safetensors").read_bytes())
    assert len(contents) == 1


def test_generator_states_survive(tmp_path: Path) -> None:
    import random

    state = {"python": random.getstate(), "torch": torch.get_rng_state()}
    write_state(tmp_path / "rng.safetensors", state)
    assert_same(read_state(tmp_path / "rng.safetensors"), state)


def test_tensors_that_share_memory_are_stored_apart(tmp_path: Path) -> None:
    shared = torch.arange(4.0)
    write_tensors(tmp_path / "t.safetensors", {"a": shared, "b": shared[1:]}, {"k": [1]})
    tensors, metadata = read_tensors(tmp_path / "t.safetensors")
    assert tensors["a"].equal(shared)
    assert tensors["b"].equal(shared[1:])
    assert metadata == {"k": [1]}


def test_what_cannot_be_stored_is_refused_before_a_file_exists(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="object cannot be part of a saved state"):
        write_state(tmp_path / "s.safetensors", {"a": object()})
    assert list(tmp_path.iterdir()) == []


def test_every_damage_is_found_and_the_file_named(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    write_state(path, {"weights": torch.arange(100.0)})
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-17] ^= 1  # one bit of one number
    for damaged in (whole[:-5], whole[:20], b"", b"not at all", bytes(flipped)):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=r"last\.safetensors: damaged"):
            read_state(path)


def test_foreign_and_missing_files_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(RunError, match=r"foreign\.safetensors: not written by idl"):
        read_state(tmp_path / "foreign.safetensors")
    with pytest.raises(RunError, match="no such file"):
        read_state(tmp_path / "missing.safetensors")
    write_tensors(tmp_path / "other.safetensors", {}, {"unknown": 1})
    with pytest.raises(RunError, match="not a state written by idl"):
        read_state(tmp_path / "other.safetensors")
