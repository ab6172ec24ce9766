"""Every form predicts what the run predicts, with what its users have and nothing of ours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from idl_cli.data.dataset import Dataset
from idl_cli.data.preprocessing import Preprocessing
from idl_cli.data.scaling import TargetScaling
from idl_cli.data.series.differences import Differences
from idl_cli.data.series.forecast import Forecast
from idl_cli.data.split import Split
from idl_cli.data.task import Task
from idl_cli.equilibrium.conditions import ACTIVATION_FACTS
from idl_cli.errors import UnsupportedModelError
from idl_cli.export.check import check
from idl_cli.export.deployment import Deployment, Format
from idl_cli.export.formats.hub_folder import HubFormat
from idl_cli.export.formats.numpy_folder import NumpyFormat
from idl_cli.export.formats.safetensors_file import SafetensorsFormat
from idl_cli.export.formats.torch_export import TorchExportFormat
from idl_cli.models.convolutional.implicit_conv import ImplicitConv
from idl_cli.models.explicit import CNN
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.rnn import ImplicitRNN
from idl_cli.models.sequence_baselines import LSTM, MatchedMLP
from idl_cli.run import fitted_to
from tests.export.makers import PICTURES, PIXELS, implicit, make_run

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from idl_cli.export.formats.onnx_file import OnnxFormat  # noqa: E402

RAW = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (40, 1, 4, 4), dtype=np.uint8))
REAL = torch.from_numpy(np.random.default_rng(2).normal(5, 3, (40, 3)))
TARGETS = Task("regression", (3,), 2, target_scaling=TargetScaling((1000.0, -2.0), (50.0, 0.5)))
OF_TARGETS = Preprocessing("feature", (3,), 1.0, (3,), (5.0, 5.0, 5.0), (3.0, 3.0, 3.0))
SERIES = Task(
    "regression",
    (4, 2),
    2,
    sequence=True,
    target_scaling=TargetScaling((10.0, 10.0), (2.0, 2.0)),
    forecast=Forecast("y", 1, 2, Differences((0.5, 0.7), (0.1, 0.2), (1.5, 2.0))),
)
OF_SERIES = Preprocessing("channel", (4, 2), 1.0, (1, 2), (5.0, 5.0), (3.0, 3.0))
WINDOWS = torch.from_numpy(np.random.default_rng(3).normal(5, 3, (40, 4, 2)))


def deployment(
    folder: Path,
    model: torch.nn.Module,
    task: Task = PICTURES,
    preprocessing: Preprocessing = PIXELS,
    raw: torch.Tensor = RAW,
    *,
    name: str = "implicit",
    group: str = "model",
) -> Deployment:
    """A run of the model, and data to check it with."""
    model = fitted_to(model, task)
    run = make_run(folder / "run", model, task, preprocessing, name=name, group=group)
    part = Split(raw, torch.zeros(len(raw), dtype=torch.int64))
    data = Dataset("mine", part, None, part, task, preprocessing)
    return Deployment(run, task, data, {"metrics": {"test_accuracy": 0.5}}, {})


def triangular() -> ImplicitModel:
    return implicit(16, 3, 8, well_posedness="triangular")


def feedforward() -> ImplicitModel:
    """Layers of 3 and 2 states, in another order than they are solved in, most of B zero."""
    model = implicit(16, 3, 5)
    with torch.no_grad():
        model.A.zero_()
        model.A[3:, :3] = 0.3
        model.B[3:].zero_()
        model.C[:, :3].zero_()
        model.D.zero_()  # type: ignore[union-attr]
    return model


MODELS = {
    "dense": lambda: implicit(16, 3, 8),
    "low_rank": lambda: implicit(16, 3, 8, rank=2),
    "triangular": triangular,
    "feedforward": feedforward,
    "without_bias": lambda: implicit(16, 3, 8, bias=False, no_D=True, activation="tanh"),
    "double": lambda: implicit(16, 3, 8).double(),
}


@pytest.mark.parametrize("name", MODELS)
def test_implicit_models_in_every_form(name: str, tmp_path: Path) -> None:
    """``check`` raises where an output is beyond its proven bound or a class differs."""
    made = deployment(tmp_path, MODELS[name]())
    forms: dict[str, Format] = {
        "onnx": OnnxFormat(),
        "numpy": NumpyFormat(),
        "safetensors": SafetensorsFormat(),
    }
    if name in ("dense", "triangular"):  # what the tracer takes long for
        forms["torch_export"] = TorchExportFormat()
    if name in ("dense", "low_rank"):
        forms["loop"] = OnnxFormat(loop=True)
    for form, format_ in forms.items():
        (tmp_path / form).mkdir()
        written = format_.write(made, tmp_path / form)
        found = check(made, written, timed=False)
        assert found.other_classes == 0
        # Sums of some dozen float32 numbers of order one, beside the tolerance of 1e-4.
        assert found.difference < 2e-4
        one = written.runtime(RAW[:1].numpy())  # the batch may have any size
        np.testing.assert_allclose(one, written.runtime(RAW.numpy())[:1], atol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATION_FACTS)
def test_every_activation(activation: str, tmp_path: Path) -> None:
    kappa = min(0.5, 0.9 / ACTIVATION_FACTS[activation].lipschitz)
    made = deployment(tmp_path, implicit(16, 3, 8, activation=activation, kappa=kappa))
    for form, format_ in (("onnx", OnnxFormat()), ("numpy", NumpyFormat())):
        (tmp_path / form).mkdir()
        found = check(made, format_.write(made, tmp_path / form), timed=False)
        assert found.difference < 2e-4


def test_other_models_and_units(tmp_path: Path) -> None:
    cases = {
        "regression": (implicit(3, 2, 6), TARGETS, OF_TARGETS, REAL, "implicit", "model"),
        "changes": (implicit(8, 2, 6), SERIES, OF_SERIES, WINDOWS, "implicit", "model"),
        "mlp": (MatchedMLP(16, 3, hidden_dims=[6, 5]), PICTURES, PIXELS, RAW, "mlp", "model"),
        "cnn": (
            CNN((1, 4, 4), 3, channels=[2], hidden_dim=5), PICTURES, PIXELS, RAW, "cnn", "teacher"
        ),
        "conv": (
            ImplicitConv((1, 4, 4), 3, channels=[2], stride=1, pool=2, input_kernel_size=3),
            *(PICTURES, PIXELS, RAW, "implicit_conv", "model"),
        ),
        "rnn": (ImplicitRNN(2, 2, 5, 4), SERIES, OF_SERIES, WINDOWS, "rnn", "model"),
        "lstm": (LSTM(2, 2, 4), SERIES, OF_SERIES, WINDOWS, "lstm", "model"),
    }  # fmt: skip
    forms = {
        "onnx": OnnxFormat(),
        "numpy": NumpyFormat(),
        "torch_export": TorchExportFormat(),
    }
    refused = []
    for case, (model, task, preprocessing, raw, name, group) in cases.items():
        (tmp_path / case).mkdir()
        made = deployment(tmp_path / case, model, task, preprocessing, raw, name=name, group=group)
        traced = case in ("changes", "rnn")
        for form, format_ in forms.items():
            if form == "torch_export" and not traced:
                continue
            folder = tmp_path / case / form
            folder.mkdir()
            try:
                written = format_.write(made, folder)
            except UnsupportedModelError as error:
                refused.append((case, form, str(error).partition(":")[0]))
                continue
            found = check(made, written, timed=False)
            # Of a regression in the targets' unit, whose spread is 50 or less.
            assert found.difference < 1e-2
            assert not found.other_classes
    assert set(refused) == {
        ("cnn", "numpy", "cnn"),
        ("rnn", "torch_export", "rnn"),
        ("lstm", "onnx", "LSTM"),
        ("lstm", "numpy", "LSTM"),
    }


def test_predict_py_needs_numpy_alone(tmp_path: Path) -> None:
    """In a Python without site packages, NumPy's own folder put beside it."""
    made = deployment(tmp_path, implicit(16, 3, 8))
    (tmp_path / "numpy").mkdir()
    NumpyFormat().write(made, tmp_path / "numpy")
    np.save(tmp_path / "x.npy", RAW.numpy())
    packages = tmp_path / "packages"
    packages.mkdir()
    home = Path(np.__file__).parent
    for each in (home, home.with_name("numpy.libs")):
        if each.exists():
            (packages / each.name).symlink_to(each)
    program = (
        f"import sys; sys.path.append({str(packages)!r}); sys.argv = ['predict.py', 'x.npy'];"
        "import runpy; runpy.run_path('numpy/predict.py', run_name='__main__');"
        "assert not {'torch', 'idl_cli', 'scipy'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program],
        cwd=tmp_path, capture_output=True, text=True, check=False, encoding="utf-8",
        env={"PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    classes = made.own_outputs(RAW).argmax(axis=1)
    assert done.stdout.split() == [made.class_names[index] for index in classes]
    assert len((tmp_path / "numpy" / "predict.py").read_text().splitlines()) < 100


def test_sparse_weights_stay_sparse(tmp_path: Path) -> None:
    """90 % zeros: a quarter of the dense file at most, in gaps of every length."""
    sizes = {}
    for share in (1.0, 0.1):
        model = implicit(16, 3, 150)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in (model.A, model.B):
                weight.mul_(torch.rand(weight.shape, generator=generator) <= share)
            if share < 1:
                model.A[10:60].zero_()  # gaps beyond 255 and 65,535 need entries of their own
                model.B.zero_()[-1, -1] = 1.0
        folder = tmp_path / str(share)
        folder.mkdir()
        made = deployment(folder, model)
        written = OnnxFormat(steps=2).write(made, folder)
        sizes[share] = (folder / "model.onnx").stat().st_size
        assert check(made, written, timed=False).bound is not None
    assert sizes[0.1] <= 0.25 * sizes[1.0]


def test_what_the_file_says(tmp_path: Path) -> None:
    made = deployment(tmp_path, implicit(16, 3, 8))
    written = OnnxFormat(opset=18).write(made, tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    assert [each.version for each in model.opset_import] == [18]
    said = {each.key: each.value for each in model.metadata_props}
    assert json.loads(said["class_names"]) == ["cat", "dog", "Île"]
    assert written.bound is not None
    assert json.loads(said["bound"])["steps"] == written.bound.steps


def test_a_folder_for_a_hub(tmp_path: Path) -> None:
    made = deployment(tmp_path, implicit(16, 3, 8))
    (tmp_path / "hub").mkdir()
    written = HubFormat().write(made, tmp_path / "hub")
    assert check(made, written, timed=False).other_classes == 0
    files = {str(each.relative_to(tmp_path / "hub")) for each in (tmp_path / "hub").rglob("*")}
    assert {"model.safetensors", "model.json", "numpy/predict.py"} <= files
