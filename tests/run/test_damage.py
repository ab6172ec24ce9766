"""A bit that was lost anywhere in a file is found: it is never believed."""

import json
import resource
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from idl_cli.data.digest import content_digest, tensors_digest
from idl_cli.data.preprocessing import Preprocessing
from idl_cli.errors import DataError, IdlError, RunError
from idl_cli.models.implicit import ImplicitModel
from idl_cli.run.files import json_bytes
from idl_cli.run.loading import load_run
from idl_cli.run.model_file import write_model
from idl_cli.run.state import pack, read_state, read_tensors, write_state
from idl_cli.sim.statistics.dense import SufficientStatistics

STATE = {"progress": {"epoch": 3, "best": 0.975}, "weights": torch.arange(6.0).reshape(2, 3)}


def header_end(content: bytes) -> int:
    (length,) = struct.unpack("<Q", content[:8])
    return 8 + int(length)


def bits(content: bytes) -> Iterator[int]:
    """Every bit of the length and the header, one in eleven of the numbers behind them."""
    header = 8 * header_end(content)
    yield from range(header)
    yield from range(header, 8 * len(content), 11)


def flipped(content: bytes, bit: int) -> bytes:
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and torch.equal(first, second)
    if isinstance(first, dict):
        keys = isinstance(second, dict) and list(first) == list(second)
        return keys and all(same(first[key], second[key]) for key in first)
    return type(first) is type(second) and bool(first == second)


def test_every_bit_of_a_checkpoint_counts(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    write_state(path, STATE)
    whole = path.read_bytes()
    assert same(read_state(path), STATE)
    for bit in bits(whole):
        path.write_bytes(flipped(whole, bit))
        try:
            found = read_state(path)
        except RunError:
            continue
        assert same(found, STATE), f"bit {bit} was believed"


def test_every_bit_of_statistics_counts(tmp_path: Path) -> None:
    path = tmp_path / "statistics.safetensors"
    generator = torch.Generator().manual_seed(0)
    statistics = SufficientStatistics(2, 1, {"Z": 2})
    x, u = torch.randn(5, 2, generator=generator), torch.randn(5, 1, generator=generator)
    statistics.update(x, u, {"Z": x})
    statistics.save(path)
    whole = path.read_bytes()
    for bit in bits(whole):
        path.write_bytes(flipped(whole, bit))
        try:
            found = SufficientStatistics.load(path)
        except IdlError:
            continue
        assert found.count == statistics.count
        assert same(found.tensors(), statistics.tensors()), f"bit {bit} was believed"


def test_statistics_that_a_full_disk_has_no_room_for_leave_the_old_ones(tmp_path: Path) -> None:
    path = tmp_path / "statistics.safetensors"
    SufficientStatistics(2, 1, {"Z": 2}).save(path)
    whole = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(DataError, match=r"statistics\.safetensors: cannot be written .*room"):
            SufficientStatistics(60, 1, {"Z": 2}).save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == whole
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e400"])
def test_numbers_in_a_header_that_json_has_not_are_damage(tmp_path: Path, number: str) -> None:
    path = tmp_path / "state.safetensors"
    header = f'{{"format": "idl 2", "sha256": "{"0" * 64}", "content": [{number}]}}'
    path.write_bytes(save({"0": torch.ones(2)}, metadata={"idl": header}))
    with pytest.raises(RunError, match=r"state\.safetensors: damaged"):
        read_tensors(path)


def model_in(directory: Path) -> Path:
    torch.manual_seed(0)
    model = ImplicitModel(3, 2, 4)
    scaling = Preprocessing(
        "feature", (3,), 1.0, (3,), mean=(0.5, 0.25, 0.125), std=(0.37, 1.0, 2.0)
    )
    write_model(
        directory,
        model,
        scaling,
        None,
        name="implicit",
        group="model",
        arguments=model.constructor_arguments(),
    )
    return directory / "model.safetensors"


def test_a_flipped_scale_is_no_other_model(tmp_path: Path) -> None:
    """Once believed: a standard deviation of 8.37 for 0.37, and 84 % accuracy for 97 %."""
    path = model_in(tmp_path)
    content = path.read_bytes()
    at = content.index(b'\\"std\\": [') + len(b'\\"std\\": [')
    assert content[at : at + 4] == b"0.37"
    path.write_bytes(flipped(content, 8 * at + 3))
    with pytest.raises(RunError, match=r"model\.safetensors: damaged.*checksum"):
        load_run(tmp_path)


# -- files of the format before --------------------------------------------------------------------


def written_before(path: Path, tensors: dict[str, torch.Tensor], content: object) -> None:
    header = {"format": "idl 1", "sha256": tensors_digest(tensors), "content": content}
    path.write_bytes(save(tensors, metadata={"idl": json.dumps(header)}))


def test_a_checkpoint_of_an_earlier_version_is_read_with_a_warning(tmp_path: Path) -> None:
    tensors: dict[str, torch.Tensor] = {}
    structure = pack(STATE, tensors)
    written_before(tmp_path / "last.safetensors", tensors, structure)
    (tmp_path / "last.json").write_text('{"epoch": 3, "sha256": "…"}')
    with pytest.warns(UserWarning, match="earlier version, without a checksum"):
        assert same(read_state(tmp_path / "last.safetensors"), STATE)


def test_a_model_of_an_earlier_version_is_held_against_its_json(tmp_path: Path) -> None:
    path = model_in(tmp_path)
    tensors, content = read_tensors(path)
    assert isinstance(content, dict)
    written_before(path, tensors, content)
    repeated = {**content, "sha256": tensors_digest(tensors)}
    (tmp_path / "model.json").write_bytes(json_bytes(repeated))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weights = load_run(tmp_path).model.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in tensors.items())
    damaged = path.read_bytes()
    at = damaged.index(b'\\"std\\": [') + len(b'\\"std\\": [')
    path.write_bytes(flipped(damaged, 8 * at + 3))
    with pytest.raises(RunError, match=r"damaged.*model\.json"):
        load_run(tmp_path)


def test_statistics_of_an_earlier_version_are_read_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "statistics.safetensors"
    statistics = SufficientStatistics(1, 1, {"Z": 1})
    one = torch.ones(2, 1)
    statistics.update(one, one, {"Z": one})
    layout = json.dumps({"state_dim": 1, "input_dim": 1, "targets": {"Z": 1}})
    metadata = {"format": "idl-sufficient-statistics-1", "layout": layout, "count": "2"}
    path.write_bytes(save(statistics.tensors(), metadata=metadata))
    with pytest.warns(UserWarning, match="earlier version"):
        assert same(SufficientStatistics.load(path).tensors(), statistics.tensors())


# -- the digest ------------------------------------------------------------------------------------

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(PLAIN)
def test_content_that_was_written_and_read_has_the_same_digest(content: object) -> None:
    tensors = {"a": torch.ones(1)}
    expected = content_digest(tensors, content)
    assert content_digest(tensors, json.loads(json.dumps(content, indent=1))) == expected
    assert content_digest(tensors, [content]) != expected
    assert content_digest({"b": torch.ones(1)}, content) != expected
