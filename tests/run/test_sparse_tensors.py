"""Sparse storage: every bit comes back, and files shrink with their weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from idl_cli import load_model
from idl_cli.errors import RunError
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.pruning import prune_by_magnitude
from idl_cli.run import RunDirectory
from idl_cli.run.sparse_tensors import packed, unpacked
from idl_cli.run.state import read_tensors, write_tensors

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
SPECIAL = (0.0, -0.0, 1.0, float("nan"), float("inf"), 1e-40, -5e-324)


def _equal_bits(a: Tensor, b: Tensor) -> bool:
    raw = [t.contiguous().reshape(-1).view(torch.uint8) for t in (a, b)]
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*raw)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shape=st.lists(st.integers(0, 40), max_size=3),
    dtype=st.sampled_from(DTYPES),
    zeros=st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    seed=st.integers(0, 99),
)
def test_every_bit_comes_back(
    shape: list[int], dtype: torch.dtype, zeros: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(SPECIAL), shape, generator=generator)
    values = torch.tensor(SPECIAL, dtype=torch.float64)[drawn].to(dtype)
    values[torch.rand(shape, generator=generator) < zeros] = 0.0
    tensors = {
        "a.w": values,
        "n": torch.arange(3),
        "t": values.transpose(0, -1) if shape else values,
    }
    stored, shapes = packed(tensors)
    found = unpacked(stored, shapes)
    assert found.keys() == tensors.keys()
    assert all(_equal_bits(found[name], tensor) for name, tensor in tensors.items())
    size = sum(tensor.nbytes for tensor in stored.values())
    assert size <= sum(tensor.nbytes for tensor in tensors.values())


def _saved(path: Path, model: nn.Module) -> int:
    with RunDirectory(path, command="sim") as directory:
        directory.save_model(model, preprocessing=None, task=None)
    return (path / "model.safetensors").stat().st_size


def test_a_file_shrinks_with_its_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ImplicitModel(300, 10, 60)
    dense = _saved(tmp_path / "dense", model)
    entries = sum(p.numel() for p in model.parameters())
    assert dense < 4 * entries + 4096
    for share in (0.2, 0.05, 0.02):
        kept = round(share * entries)
        prune_by_magnitude(model, kept)
        size = _saved(tmp_path / f"{share:g}", model)
        # Four bytes a value, at most a bit an entry for its place, and the header.
        assert size < 4 * kept + entries / 8 + 4096
        loaded = load_model(tmp_path / f"{share:g}")
        for name, tensor in model.state_dict().items():
            assert _equal_bits(loaded.state_dict()[name], tensor)


def test_a_dense_model_is_stored_as_before(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    assert packed(model.state_dict())[1] == {}


@pytest.mark.parametrize("damage", ["values", "places", "shape", "missing", "rubbish"])
def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path, damage: str) -> None:
    model = ImplicitModel(40, 4, 20)
    prune_by_magnitude(model, 60)
    _saved(tmp_path, model)
    file = tmp_path / "model.safetensors"
    tensors, description = read_tensors(file)
    assert isinstance(description, dict)
    name = max(description["sparse"], key=lambda each: len(tensors[f"{each}.values"]))
    if damage == "values":
        tensors[f"{name}.values"] = tensors[f"{name}.values"][1:]
    elif damage == "places":
        tensors[f"{name}.places"] = tensors[f"{name}.places"][:-2]
    elif damage == "rubbish":
        tensors[f"{name}.places"] = torch.arange(9, dtype=torch.uint8)
    elif damage == "missing":
        del tensors[f"{name}.places"]
    else:
        description["sparse"][name] = [7, 3]
    write_tensors(file, tensors, description)
    with pytest.raises(RunError, match="cannot be made again"):
        load_model(tmp_path)
