import json
from pathlib import Path

import pytest
import torch

import idl_cli
from idl_cli.data.preprocessing import Preprocessing
from idl_cli.data.task import Task
from idl_cli.errors import RunError
from idl_cli.models.implicit import ImplicitModel
from idl_cli.run import RunDirectory, load_run
from idl_cli.run.state import read_tensors, write_tensors

_TASK = Task("classification", (1, 2, 3), 4, ("a", "b", "c", "d"))


def _saved(path: Path, dtype: torch.dtype = torch.float32, **arguments: object) -> ImplicitModel:
    torch.manual_seed(0)
    model = ImplicitModel(6, 4, 5, **arguments).to(dtype)  # type: ignore[arg-type]
    preprocessing = Preprocessing.fit(torch.rand(9, 1, 2, 3), "channel", divisor=3.0)
    with RunDirectory(path, command="train", resume=True) as directory:
        directory.save_model(model, preprocessing=preprocessing, task=_TASK)
    return model


@pytest.mark.parametrize(
    ("dtype", "arguments"),
    [
        (torch.float32, {}),
        (torch.float64, {"kappa": 0.5, "activation": "tanh", "bias": False}),
        (torch.float32, {"rank": 2, "no_D": True}),
        (torch.float32, {"well_posedness": "triangular"}),
        (torch.float32, {"forward": {"method": "anderson", "tol": 1e-3}}),
    ],
)
def test_the_model_comes_back_to_the_bit(
    tmp_path: Path, dtype: torch.dtype, arguments: dict[str, object]
) -> None:
    model = _saved(tmp_path, dtype, **arguments)
    loaded = idl_cli.load_model(tmp_path)
    assert isinstance(loaded, ImplicitModel)
    assert not loaded.training
    assert loaded.constructor_arguments() == model.constructor_arguments()
    for name, tensor in model.state_dict().items():
        assert loaded.state_dict()[name].dtype == dtype
        assert loaded.state_dict()[name].equal(tensor)
    inputs = torch.rand(7, 6, dtype=dtype)
    with torch.no_grad():
        assert loaded(inputs).equal(model(inputs))


def test_preprocessing_and_task_come_with_it(tmp_path: Path) -> None:
    _saved(tmp_path)
    run = load_run(tmp_path)
    assert run.task == _TASK
    assert run.preprocessing == Preprocessing.fit(
        torch.rand(9, 1, 2, 3, generator=_generator_after_model()), "channel", divisor=3.0
    )
    assert (run.name, run.dtype) == ("implicit", torch.float32)
    description = json.loads((tmp_path / "model.json").read_text())
    assert description["arguments"]["hidden_dim"] == 5
    assert description["task"]["class_names"] == ["a", "b", "c", "d"]


def _generator_after_model() -> torch.Generator:
    """The generator as `_saved` leaves it after the model's weights were drawn."""
    torch.manual_seed(0)
    ImplicitModel(6, 4, 5)
    generator = torch.Generator()
    generator.set_state(torch.get_rng_state())
    return generator


def test_directories_without_a_usable_model_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such run directory"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"model\.safetensors: no such file; the run has not ended"):
        load_run(tmp_path)
    _saved(tmp_path)
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(RunError, match=r"model\.safetensors: damaged"):
        load_run(tmp_path)
    file.write_bytes(whole)
    tensors, described = read_tensors(file)
    assert isinstance(described, dict)
    described["arguments"]["hidden_dim"] = 9
    write_tensors(file, tensors, described)
    with pytest.raises(RunError, match=r"model\.safetensors: the model it describes cannot"):
        load_run(tmp_path)
