"""Statistics know what they are of: those of another teacher or of other samples are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from idl_cli.data.images.digits import digits
from idl_cli.errors import DataError, IgnoredOptionWarning
from idl_cli.sim.sim import SIM
from idl_cli.sim.states.origin import Origin, SampleOrigin, digest_of
from idl_cli.sim.statistics.dense import SufficientStatistics


def _network(seed: int = 0, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), activation(), nn.Linear(8, 3))


INPUTS = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))


def _saved(path: Path) -> SufficientStatistics:
    SIM().record(model=_network(), dataloader=[INPUTS]).raw.save(path)  # type: ignore[union-attr]
    return SufficientStatistics.load(path)


def test_the_same_teacher_takes_them_again(tmp_path: Path) -> None:
    known = _saved(tmp_path / "s.safetensors")
    again = SIM().record(model=_network(), dataloader=[INPUTS], statistics=known)
    assert again.raw is known
    assert known.origin is not None
    assert Origin.from_dict(known.origin.to_dict()) == known.origin


@pytest.mark.parametrize("regenerate", [False, True])
def test_another_teacher_is_refused(tmp_path: Path, regenerate: bool) -> None:
    known = _saved(tmp_path / "s.safetensors")
    sim = SIM(regenerate_states=regenerate)
    with pytest.raises(DataError, match="what differs: the teacher's weights"):
        sim.record(model=_network(1), dataloader=[INPUTS], statistics=known)
    nearly = _network()
    with torch.no_grad():
        nearly[0].weight[0, 0] += 1e-6
    with pytest.raises(DataError, match="the teacher's weights"):
        sim.record(model=nearly, dataloader=[INPUTS], statistics=known)
    with pytest.raises(DataError, match=r"the states .*relu of Sequential.*here leaky_relu"):
        sim.record(model=_network(0, nn.LeakyReLU), dataloader=[INPUTS], statistics=known)


def test_statistics_that_do_not_say_are_taken_with_a_warning(tmp_path: Path) -> None:
    known = _saved(tmp_path / "s.safetensors")
    known.origin = None
    with pytest.warns(IgnoredOptionWarning, match="taken on trust"):
        SIM().record(model=_network(), dataloader=[INPUTS], statistics=known)


def test_every_change_of_the_samples_is_told() -> None:
    dataset = digits(seed=0)
    known = SampleOrigin.of(dataset, samples=None, seed=0)
    mine = Origin("w", "s", known)

    def told(other: SampleOrigin) -> list[str]:
        return mine.differences(Origin("w", "s", other))

    assert told(SampleOrigin.of(digits(seed=0), samples=None, seed=3)) == []
    # The test part plays no role.
    assert told(SampleOrigin.of(replace(dataset, test=dataset.train), samples=None, seed=0)) == []
    drawn = SampleOrigin.of(dataset, samples=100, seed=0)
    assert told(drawn) == ["which samples (all samples; here 100 samples drawn with seed 0)"]
    other = replace(dataset, preprocessing=replace(dataset.preprocessing, divisor=2.0))
    assert told(SampleOrigin.of(other, samples=None, seed=0)) == ["the preprocessing"]
    inputs = dataset.train.inputs.clone()
    inputs[0, 0] += 1
    changed = replace(dataset, train=replace(dataset.train, inputs=inputs))
    assert told(SampleOrigin.of(changed, samples=None, seed=0)) == ["the training samples"]


def test_a_file_that_was_altered_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    _saved(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file({**tensors, "gram": tensors["gram"] * 2}, path, metadata=metadata)
    with pytest.raises(DataError, match="does not match its checksum"):
        SufficientStatistics.load(path)
    save_file(tensors, path, metadata={**metadata, "count": "61"})
    with pytest.raises(DataError, match="does not match its checksum"):
        SufficientStatistics.load(path)
    old = {**metadata, "format": "idl-sufficient-statistics-1"}
    save_file(tensors, path, metadata=old)
    with pytest.warns(UserWarning, match="written by an earlier version, without a checksum"):
        SufficientStatistics.load(path)
    save_file(tensors, path, metadata={**metadata, "format": "idl-sufficient-statistics-9"})
    with pytest.raises(DataError, match="not a statistics file of this version"):
        SufficientStatistics.load(path)


def test_a_digest_knows_names_dtypes_and_shapes() -> None:
    one = torch.arange(4.0)
    digests = {
        digest_of({}, {"a": one}),
        digest_of({}, {"b": one}),
        digest_of({}, {"a": one.view(2, 2)}),
        digest_of({}, {"a": one.view(torch.int32)}),
        digest_of({"a": "1"}, {"a": one}),
        digest_of({}, {"a": one.bfloat16()}),
    }
    assert len(digests) == 6
