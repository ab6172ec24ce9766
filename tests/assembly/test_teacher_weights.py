"""A plain file of weights as teacher: the same outputs as the network it was written from."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from idl_cli.assembly.compute import Compute
from idl_cli.assembly.teacher_weights import as_it_was_trained, network_of_file
from idl_cli.config.check import schema_defaults
from idl_cli.data.dataset import Dataset
from idl_cli.data.images.digits import digits
from idl_cli.errors import ConfigError, DataError
from idl_cli.models.options import WeightsTeacherOptions
from tests.conftest import IdlHere

DATA = digits(train_samples=60, test_samples=20)
CPU = Compute(device=torch.device("cpu"), dtype=torch.float64)


def _settings(path: Path, **changes: object) -> dict[str, Any]:
    return {**schema_defaults(WeightsTeacherOptions), "file": str(path), **changes}


def _save(path: Path, arrays: Mapping[str, Tensor]) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **{name: tensor.detach().numpy() for name, tensor in arrays.items()})
    else:
        save_file(dict(arrays), path)
    return path


def _network(*widths: int, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs, bias=bias, dtype=torch.float64), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _outputs(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(DATA.preprocessing(DATA.test.inputs, dtype=torch.float64).flatten(1))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("bias", [True, False])
def test_the_outputs_are_those_of_the_network(tmp_path: Path, suffix: str, bias: bool) -> None:
    # Eleven linear layers of one width: numbers in names are no text ("10" after "2").
    source = _network(64, *[12] * 11, 10, bias=bias)
    path = _save(tmp_path / f"w{suffix}", source.state_dict())
    found = network_of_file(_settings(path), DATA, CPU)
    assert torch.equal(_outputs(found), _outputs(source))
    assert any(name.endswith("bias") for name, _ in found.named_parameters()) == bias


def test_order_and_missing_offsets_are_read_off_shapes_and_names(tmp_path: Path) -> None:
    source = _network(64, 12, 9, 10)
    source[2].bias.data.zero_()
    names = {"0.weight": "out.W", "0.bias": "out.b", "2.weight": "first.W"}
    names |= {"4.weight": "a.W", "4.bias": "a.b"}
    arrays = {names[name]: t for name, t in source.state_dict().items() if name in names}
    found = network_of_file(_settings(_save(tmp_path / "w.npz", arrays)), DATA, CPU)
    assert torch.equal(_outputs(found), _outputs(source))


def test_an_order_that_is_left_open_is_asked_for(tmp_path: Path) -> None:
    source = _network(64, 12, 12, 12, 10)
    names = ("first", "encode", "decode", "last")
    arrays = {
        f"{name}.{kind}": getattr(layer, kind)
        for name, layer in zip(names, source[::2], strict=True)
        for kind in ("weight", "bias")
    }
    path = _save(tmp_path / "w.npz", arrays)
    with pytest.raises(ConfigError, match=r"both possible .*teacher\.layers="):
        network_of_file(_settings(path), DATA, CPU)
    layers = [f"{name}.weight" for name in names]
    found = network_of_file(_settings(path, layers=layers), DATA, CPU)
    assert torch.equal(_outputs(found), _outputs(source))
    for wrong in (layers[:-1], layers[::-1], [*layers[:-1], "x"]):
        with pytest.raises(ConfigError, match=r"teacher\.layers="):
            network_of_file(_settings(path, layers=wrong), DATA, CPU)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"2.weight": torch.zeros(9, 11)}, r"make no network from 64 inputs to 10 outputs"),
        ({"0.weight": torch.zeros(12, 63)}, "make no network"),
        ({"4.weight": torch.zeros(3, 9), "4.bias": torch.zeros(3)}, "make no network"),
        ({"0.bias": torch.zeros(11)}, r"0\.bias has shape \[11\]"),
        ({"0.weight": torch.zeros(12, 64, dtype=torch.int64)}, "int64, no real numbers"),
        ({"2.bias": torch.full((9,), torch.nan)}, "2.bias holds NaN"),
        ({"conv.weight": torch.zeros(2, 1, 3, 3)}, r"conv\.weight \[2, 1, 3, 3\] is no part"),
        ({"1.running_mean": torch.zeros(12)}, r"1\.running_mean \[12\] is no part"),
    ],
)
def test_what_is_no_such_network_is_refused(
    tmp_path: Path, change: dict[str, Tensor], said: str
) -> None:
    arrays = {**_network(64, 12, 9, 10).state_dict(), **change}
    path = _save(tmp_path / "w.safetensors", arrays)
    with pytest.raises(ConfigError, match=said):
        network_of_file(_settings(path), DATA, CPU)


def test_pickles_damaged_and_single_layers_are_refused(tmp_path: Path) -> None:
    source = _network(64, 12, 10)
    torch.save(source.state_dict(), tmp_path / "w.pt")
    with pytest.raises(ConfigError, match="since a pickle can run code"):
        network_of_file(_settings(tmp_path / "w.pt"), DATA, CPU)
    for suffix in (".npz", ".safetensors"):
        (tmp_path / f"w{suffix}").write_bytes((tmp_path / "w.pt").read_bytes()[:500])
        with pytest.raises(DataError, match="w"):
            network_of_file(_settings(tmp_path / f"w{suffix}"), DATA, CPU)
    np.savez(tmp_path / "o.npz", **{"0.weight": np.array([None, 1], dtype=object)})
    with pytest.raises(DataError, match="pickled"):
        network_of_file(_settings(tmp_path / "o.npz"), DATA, CPU)
    np.savez(tmp_path / "t.npz", **{"0.weight": np.array([["a"]])})
    with pytest.raises(DataError, match="no real numbers"):
        network_of_file(_settings(tmp_path / "t.npz"), DATA, CPU)
    with zipfile.ZipFile(tmp_path / "empty.npz", "w"):
        pass
    with pytest.raises(ConfigError, match="nothing in it"):
        network_of_file(_settings(tmp_path / "empty.npz"), DATA, CPU)
    one = _save(tmp_path / "one.npz", {"weight": torch.zeros(10, 64)})
    with pytest.raises(ConfigError, match="no hidden states"):
        network_of_file(_settings(one), DATA, CPU)


def test_the_normalisation_is_the_networks_own() -> None:
    settings = _settings(Path("w"), mean=(0.25,), std=(0.5,))
    fitting: Dataset = as_it_was_trained(settings, DATA)
    raw = DATA.test.inputs.double()
    expected = (raw / DATA.preprocessing.divisor - 0.25) / 0.5
    torch.testing.assert_close(
        fitting.preprocessing(DATA.test.inputs, dtype=torch.float64), expected
    )
    assert as_it_was_trained(_settings(Path("w")), DATA) is DATA
    with pytest.raises(ConfigError, match="has 1 channels"):
        as_it_was_trained(_settings(Path("w"), mean=(0.2,) * 3, std=(0.5,) * 3), DATA)


def test_a_run_takes_its_teacher_from_a_file(idl_here: IdlHere, tmp_path: Path) -> None:
    source = _network(64, 9, 10, bias=False)
    _save(tmp_path / "w.npz", source.state_dict())
    small = ("dataset.train_samples=200", "dataset.test_samples=50", "threads=1")
    arguments = ("sim", "teacher=weights", *small, "hydra.run.dir=run")
    done = idl_here(*arguments, "teacher.file=w.npz", "trainer.lambda_z=1e-8")
    assert done.status == 0, done.errors
    assert "w.npz" in done.output
    for wrong, said in (
        ("teacher.file=v.npz", "v.npz"),
        ("teacher.mean=[0.1]", "as many"),
        ("teacher.epochs=3", "teacher.epochs"),
    ):
        done = idl_here(*arguments[:-1], "teacher.file=w.npz", wrong, "hydra.run.dir=bad")
        assert done.status == 2
        assert said in done.errors
        assert not (tmp_path / "bad").exists()
