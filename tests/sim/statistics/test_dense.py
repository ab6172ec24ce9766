"""Statistics: sums that do not depend on how the data were cut, kept and reloaded unharmed."""

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from idl_cli.errors import ArgumentError, DataError, NonFiniteError, ShapeError
from idl_cli.sim.statistics.dense import SufficientStatistics

N, P, Q, SAMPLES = 4, 3, 2, 50


def _data(samples: int = SAMPLES, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    widths = {"X": N, "U": P, "Z": N, "Y": Q}
    return {
        name: torch.randn(samples, width, generator=generator).to(dtype)
        for name, width in widths.items()
    }


def _empty() -> SufficientStatistics:
    return SufficientStatistics(N, P, {"Z": N, "Y": Q})


def _add(statistics: SufficientStatistics, data: dict[str, Tensor], part: slice) -> None:
    cut = {name: tensor[part] for name, tensor in data.items()}
    statistics.update(cut["X"], cut["U"], {"Z": cut["Z"], "Y": cut["Y"]})


def _whole(samples: int = SAMPLES) -> SufficientStatistics:
    statistics = _empty()
    _add(statistics, _data(samples), slice(None))
    return statistics


def _assert_same(first: SufficientStatistics, second: SufficientStatistics) -> None:
    assert first.count == second.count
    for name, tensor in first.tensors().items():
        # Sums of float64 products in another order.
        torch.testing.assert_close(second.tensors()[name], tensor, rtol=1e-12, atol=1e-12)


def test_they_give_the_squared_error_of_any_weights() -> None:
    statistics, data = _whole(), _data(dtype=torch.float64)
    features = torch.cat([data["X"], data["U"]], dim=1)
    weights = torch.randn(Q, N + P, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = 0.5 * (features @ weights.T - data["Y"]).square().sum(dim=0)
    quadratic = 0.5 * ((weights @ statistics.gram) * weights).sum(dim=1)
    linear = (statistics.cross["Y"] * weights).sum(dim=1)
    torch.testing.assert_close(quadratic - linear + 0.5 * statistics.square["Y"], expected)


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, SAMPLES), max_size=6))
def test_any_batches_give_the_same_sums(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), SAMPLES]
    batched, data = _empty(), _data()
    for start, stop in itertools.pairwise(edges):
        _add(batched, data, slice(start, stop))
    _assert_same(_whole(), batched)


def test_a_batch_beyond_the_internal_chunk_is_summed_whole() -> None:
    data = _data(2500, dtype=torch.float64)
    features = torch.cat([data["X"], data["U"]], dim=1)
    torch.testing.assert_close(_whole(2500).gram, features.T @ features, rtol=1e-12, atol=1e-12)


def test_shards_merge_to_the_whole() -> None:
    data = _data()
    first, second = _empty(), _empty()
    _add(first, data, slice(None, 17))
    _add(second, data, slice(17, None))
    first.merge(second)
    _assert_same(_whole(), first)
    with pytest.raises(ShapeError, match="cannot merge statistics of different problems"):
        first.merge(SufficientStatistics(N, P, {"Z": N}))


def test_float32_data_are_summed_in_float64() -> None:
    # In float32 a sum of 1e8 swallows the ones.
    statistics = SufficientStatistics(1, 0, {"Z": 1})
    column = torch.tensor([[1e4], [1.0], [1.0]])
    statistics.update(column, column[:, :0], {"Z": torch.tensor([[1e4], [1.0], [-1e4]])})
    assert statistics.cross["Z"].item() == 1e8 + 1.0 - 1e4
    assert statistics.gram.item() == 1e8 + 2.0


def test_a_refused_batch_adds_nothing() -> None:
    statistics, data = _whole(), _data()
    data["Y"] = data["Y"].clone()
    data["Y"][3, 1] = torch.nan
    with pytest.raises(NonFiniteError, match=r"target Y holds NaN .* sample 53"):
        _add(statistics, data, slice(None))
    _assert_same(_whole(), statistics)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("X", torch.zeros(SAMPLES, N + 1), r"X must have shape \(50, 4\)"),
        ("U", torch.zeros(SAMPLES - 1, P), r"U must have shape \(50, 3\)"),
        ("Z", torch.zeros(SAMPLES, N, dtype=torch.int64), "target Z must be floating point"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(name: str, value: Tensor, message: str) -> None:
    data = {**_data(), name: value}
    with pytest.raises(ShapeError, match=message):
        _add(_empty(), data, slice(None))


def test_targets_must_be_those_announced() -> None:
    data = _data()
    with pytest.raises(ShapeError, match=r"need the targets \['Y', 'Z'\], got \['Z'\]"):
        _empty().update(data["X"], data["U"], {"Z": data["Z"]})
    with pytest.raises(ArgumentError, match="name at least one target"):
        SufficientStatistics(N, P, {})
    with pytest.raises(ArgumentError, match="their sum >= 1"):
        SufficientStatistics(0, 0, {"Z": 1})


def test_memory_does_not_grow_with_samples() -> None:
    def size(statistics: SufficientStatistics) -> int:
        return sum(tensor.nbytes for tensor in statistics.tensors().values())

    assert size(_whole(5000)) == size(_whole(5))


def test_saved_and_reloaded_to_the_last_bit(tmp_path: Path) -> None:
    path = tmp_path / "statistics.safetensors"
    statistics = _whole()
    statistics.save(path)
    loaded = SufficientStatistics.load(path)
    assert loaded.count == SAMPLES
    assert (loaded.state_dim, loaded.input_dim) == (N, P)
    for name, tensor in statistics.tensors().items():
        assert torch.equal(loaded.tensors()[name], tensor)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_file_that_is_not_statistics_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "statistics.safetensors"
    with pytest.raises(DataError, match="cannot be read as statistics"):
        SufficientStatistics.load(path)
    _whole().save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="cannot be read as statistics"):
        SufficientStatistics.load(path)
    save_file({"gram": torch.eye(2)}, path)
    with pytest.raises(DataError, match="is not a statistics file of this version"):
        SufficientStatistics.load(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gram", "not symmetric"),
        ("cross.Z", "exceed what any data could give"),
    ],
)
def test_numbers_that_no_data_could_give_are_refused(
    tmp_path: Path, name: str, message: str
) -> None:
    path = tmp_path / "statistics.safetensors"
    statistics = _whole()
    statistics.tensors()[name][0, 1] += 1e6
    statistics.save(path)
    with pytest.raises(DataError, match=message):
        SufficientStatistics.load(path)
    statistics.tensors()[name][0, 1] = torch.nan
    statistics.save(path)
    with pytest.raises(DataError, match="holds NaN"):
        SufficientStatistics.load(path)
    assert set(load_file(path)) == set(statistics.tensors())
