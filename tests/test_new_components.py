"""An activation, cell, solver, data set or teacher of the project's own is one file and one line.

Each is added to a copy of the package, without a YAML, and used from the shell.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.documented import ROOT
from tests.forking import completed
from tests.test_registry import SOLVER

Idl = Callable[..., "subprocess.CompletedProcess[str]"]

ACTIVATION = '''\
"""φ(z) = (z + arctan z) / 2: its derivative lies in (1/2, 1]."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def half_arctan(z: Tensor) -> Tensor:
    return (z + torch.arctan(z)) / 2


def _derivative(z: Tensor) -> Tensor:
    return (1 + (1 + z.square()).reciprocal()) / 2


MAPS = (half_arctan, half_arctan, _derivative)


class Module(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return half_arctan(z)
'''
DATASET = '''\
"""Points in the plane, labelled by the sign of their first coordinate."""

from __future__ import annotations

import torch

from idl_cli.data.assembly import assemble
from idl_cli.data.dataset import Dataset, Split
from idl_cli.data.task import Task


def halves(*, samples: int = 300, seed: int = 0, cache_dir: str | None = None) -> Dataset:
    """Two halves of the plane."""
    points = torch.randn(samples, 2, generator=torch.Generator().manual_seed(seed))
    labels = (points[:, 0] > 0).long()
    cut = samples * 4 // 5
    return assemble(
        "halves",
        Split(points[:cut], labels[:cut]),
        Split(points[cut:], labels[cut:]),
        Task("classification", (2,), 2, ("left", "right")),
        seed=seed,
        normalize="none",
        divisor=1.0,
        train_samples=None,
        test_samples=None,
        validation_fraction=0.1,
    )
'''
TEACHER = '''\
"""A network with one hidden layer."""

from __future__ import annotations

from math import prod

from torch import Tensor, nn

from idl_cli.models.base import TrainableModel


class OneLayer(TrainableModel):
    """One hidden layer."""

    def __init__(self, input_shape: tuple[int, ...], output_dim: int, *, width: int = 6) -> None:
        super().__init__()
        self.arguments = {
            "input_shape": list(input_shape), "output_dim": output_dim, "width": width
        }
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(prod(input_shape), width),
            nn.ReLU(),
            nn.Linear(width, output_dim),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(inputs)

    def constructor_arguments(self) -> dict:
        return dict(self.arguments)
'''
CELL = '''\
"""A gate between the state and a layer of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GatedCell(nn.Module):
    """(1 - g)x / 2 + g tanh(Ux + Vu), g = sigmoid(Wu)."""

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(input_dim, hidden_dim)
        self.layer = nn.Linear(input_dim, hidden_dim)
        self.again = nn.Linear(hidden_dim, hidden_dim, bias=False)
        nn.init.orthogonal_(self.again.weight, gain=0.4)

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        gate = torch.sigmoid(self.gate(u))
        return (1 - gate) * x / 2 + gate * torch.tanh(self.again(x) + self.layer(u))
'''
FILES = {
    "models/cells/gated.py": CELL,
    "equilibrium/half_arctan.py": ACTIVATION,
    "sim/solvers/proximal.py": SOLVER,
    "data/synthetic/halves.py": DATASET,
    "models/one_layer.py": TEACHER,
}
HOME = "idl_cli.equilibrium.half_arctan"
FACTS = f'ActivationFacts(1.0, "{HOME}:Module", maps="{HOME}:MAPS")'
LINES = {
    "models/cells/__init__.py": {
        '"tanh": ': '"gated": "idl_cli.models.cells.gated:GatedCell",',
    },
    "equilibrium/conditions.py": {'"hardswish": ': f'"half_arctan": {FACTS},'},
    "registry/built_in.py": {
        '"active_set": ': '"proximal": "idl_cli.sim.solvers.proximal:Proximal",',
        '"digits": ': '"halves": "idl_cli.data.synthetic.halves:halves",',
        '"cnn": ': '"one_layer": "idl_cli.models.one_layer:OneLayer",',
    },
}
"""File → the line that each new line goes above."""


@pytest.fixture(scope="module")
def idl(tmp_path_factory: pytest.TempPathFactory) -> Idl:
    """The command of a copy of the package that has one file and one line more of each."""
    root = tmp_path_factory.mktemp("copy")
    for part in ("idl_cli", "configs"):
        shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in FILES.items():
        (root / "idl_cli" / name).write_text(text)
    for name, added in LINES.items():
        file = root / "idl_cli" / name
        text = file.read_text()
        for above, line in added.items():
            assert text.count(above) == 1, above
            text = text.replace(above, f"{line}\n{above}")
        file.write_text(text)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return completed(arguments, root, {"PYTHONPATH": str(root)})

    return run


def _run(idl: Idl, root: Path, *arguments: str) -> dict[str, Any]:
    done = idl(*arguments, f"hydra.run.dir={root}")
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads((root / "summary.json").read_text())
    return summary


def test_they_are_listed_and_their_keys_are_checked(idl: Idl) -> None:
    listed = idl("list")
    assert re.search(r"^  proximal +Proximal gradient of my own\.$", listed.stdout, re.M)
    assert re.search(r"^  halves +Two halves of the plane\.$", listed.stdout, re.M)
    assert re.search(r"^  one_layer +One hidden layer\.$", listed.stdout, re.M)
    done = idl(
        "sim", "teacher=one_layer", "teacher.widht=3", "solver=proximal", "solver.max_iter=x"
    )
    assert done.returncode == 2
    assert "teacher.widht=3: no such key; did you mean teacher.width?" in done.stderr
    assert "solver.max_iter=x: must be an integer" in done.stderr


def test_a_new_activation_and_data_set_train(idl: Idl, tmp_path: Path) -> None:
    request = ("train", "dataset=halves", "model.activation=half_arctan", "model.hidden_dim=10")
    summary = _run(idl, tmp_path / "run", *request, "trainer.epochs=20", "optimizer.lr=1e-2")
    assert summary["metrics"]["test_accuracy"] > 0.9  # linearly separable; chance is one half
    refused = idl(*request[:2], "model.activation=half_arctn")
    assert refused.returncode == 2
    assert "did you mean half_arctan?" in refused.stderr


def test_a_new_cell_trains(idl: Idl, tmp_path: Path) -> None:
    request = ("train", "dataset=halves", "model=deq", "model.hidden_dim=6")
    options = ("model.cell=gated", "trainer.epochs=20", "optimizer.lr=5e-2")
    summary = _run(idl, tmp_path / "run", *request, *options)
    assert summary["metrics"]["test_accuracy"] > 0.9  # linearly separable; chance is one half
    refused = idl(*request, "model.cell=gatd")
    assert refused.returncode == 2
    assert "must be one of residual, gated, tanh (did you mean gated?)" in refused.stderr


def test_a_new_activation_is_a_teachers_too(idl: Idl, tmp_path: Path) -> None:
    summary = _run(
        idl,
        tmp_path / "run",
        *("sim", "dataset=halves", "teacher.activation=half_arctan", "teacher.hidden_dims=[4]"),
        *("teacher.epochs=2", "trainer.prune_baseline=false"),
    )
    assert summary["sim"]["ab"]["status"] == "optimal"


def test_a_new_teacher_and_solver_make_a_model(idl: Idl, tmp_path: Path) -> None:
    # A large penalty on few states: plain proximal gradient reaches the certificate soon.
    summary = _run(
        idl,
        tmp_path / "run",
        *("sim", "dataset=halves", "teacher=one_layer", "teacher.width=5", "teacher.epochs=2"),
        *("solver=proximal", "trainer.lambda_z=0.3", "trainer.lambda_y=0.3", "trainer.tol=1e-3"),
        "trainer.prune_baseline=false",
    )
    assert summary["sim"]["solver"] == "proximal"
    assert summary["sim"]["ab"]["status"] == "optimal"
