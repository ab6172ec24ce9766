"""The registry: names to components, and plug-ins from a real installed package."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from idl_cli import registry
from idl_cli.errors import ArgumentError
from tests.forking import completed

pytestmark = pytest.mark.slow

Idl = Callable[..., "subprocess.CompletedProcess[str]"]

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "idl-mine"
version = "1.2.3"

[project.entry-points."idl_cli.optimizers"]
mine = "idl_mine:Mine"
broken = "idl_mine.nowhere:Nothing"
adam = "idl_mine:Mine"

[project.entry-points."idl_cli.solvers"]
mine = "idl_mine.solver:Proximal"

[project.entry-points."idl_cli.models"]
linear = "idl_mine.linear:Linear"

[tool.hatch.build.targets.wheel]
packages = ["idl_mine"]
"""
OPTIMIZER = '''\
"""A plug-in's optimizer."""
from typing import Literal

import torch


class Mine(torch.optim.SGD):
    """Gradient steps of my own.

    More about them.
    """

    def __init__(self, parameters, *, lr: float, kind: Literal["plain", "signed"] = "plain"):
        super().__init__(parameters, lr=lr)
'''
MODEL = '''\
"""A plug-in's model: no base class needed."""
import torch


class Linear(torch.nn.Module):
    """A linear map."""

    def __init__(self, input_dim: int, output_dim: int, bias: bool = True):
        super().__init__()
        self.layer = torch.nn.Linear(input_dim, output_dim, bias=bias)

    def forward(self, inputs):
        return self.layer(inputs.flatten(1))
'''
SOLVER = '''\
"""A plug-in's solver: proximal gradient in its plainest form."""
from dataclasses import dataclass

import torch

from idl_cli.sim.regression.prox import prox_rows
from idl_cli.sim.solvers import BaseSolver
from idl_cli.sim.regression.solver import SolverResult


@dataclass(frozen=True, kw_only=True)
class Proximal(BaseSolver):
    """Proximal gradient of my own."""

    handles = frozenset({"l1", "l2", "budget"})
    max_iter: int = 20000

    def solve(self, problem, monitor):
        weights = torch.zeros_like(problem.cross)
        step = 1 / torch.linalg.eigvalsh(problem.hessian)[-1]
        for iteration in range(1, self.max_iter + 1):
            moved = weights - step * (weights @ problem.hessian - problem.cross)
            weights = prox_rows(moved, step * problem.penalties[:, None], problem.budget)
            if iteration % 100 == 0 and monitor(weights, iteration=iteration).should_stop:
                break
        return SolverResult(weights, iteration)
'''


@pytest.fixture(scope="module")
def plug_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with entry points, installed by pip into a directory of its own."""
    source = tmp_path_factory.mktemp("source")
    (source / "pyproject.toml").write_text(PYPROJECT)
    (source / "idl_mine").mkdir()
    (source / "idl_mine" / "__init__.py").write_text(OPTIMIZER)
    (source / "idl_mine" / "linear.py").write_text(MODEL)
    (source / "idl_mine" / "solver.py").write_text(SOLVER)
    target = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    install += ["--no-build-isolation", "--disable-pip-version-check", "--target", str(target)]
    subprocess.run([*install, str(source)], check=True, capture_output=True)
    return target


@pytest.fixture
def idl(plug_in: Path, tmp_path: Path) -> Idl:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return completed(arguments, tmp_path, {"PYTHONPATH": str(plug_in)})

    return run


def test_a_plug_in_is_listed_without_being_imported(idl: Idl) -> None:
    done = idl("list", "optimizer")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^  mine +plug-in idl_mine:Mine of idl-mine 1\.2\.3$", done.stdout, re.M)
    assert re.search(r"^  broken +plug-in idl_mine\.nowhere:Nothing", done.stdout, re.M)


def test_a_plug_in_installed_meanwhile_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    assert "late" not in registry.plug_ins("solver")
    information = tmp_path / "idl_late-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: idl-late\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[idl_cli.solvers]\nlate = idl_late:Late\n")
    assert registry.plug_ins("solver")["late"].value == "idl_late:Late"


def test_a_plug_in_option_comes_from_its_signature(idl: Idl) -> None:
    done = idl("train", "optimizer=mine", "optimizer.lr=0.5", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    expected = {"name": "mine", "lr": 0.5, "kind": "plain"}
    assert yaml.safe_load(done.stdout)["optimizer"] == expected


def test_a_plug_ins_keys_are_checked_like_any_other(idl: Idl) -> None:
    done = idl("train", "optimizer=mine", "optimizer.knd=plain", "optimizer.kind=odd")
    assert done.returncode == 2
    assert "optimizer.lr: missing" in done.stderr
    assert "optimizer.knd=plain: no such key; did you mean optimizer.kind?" in done.stderr
    assert "optimizer.kind=odd: must be one of plain, signed" in done.stderr
    assert "did you mean mine?" in idl("train", "optimizer=mien").stderr


def test_a_broken_plug_in_harms_only_who_chooses_it(idl: Idl) -> None:
    assert idl("train", "--cfg", "job").returncode == 0
    done = idl("train", "optimizer=broken")
    assert done.returncode == 2
    assert "idl_mine.nowhere:Nothing of idl-mine cannot be imported" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_built_in_name_stays_built_in(idl: Idl) -> None:
    done = idl("train", "optimizer=adam", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    assert "amsgrad" in yaml.safe_load(done.stdout)["optimizer"]


def test_plug_ins_train(idl: Idl, tmp_path: Path) -> None:
    done = idl(
        "train",
        "model=linear",
        "optimizer=mine",
        "optimizer.lr=0.1",
        "scheduler=constant",
        "trainer.epochs=2",
        "hydra.run.dir=run",
    )
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run" / "summary.json").read_text())["metrics"]
    # A linear map reaches 0.87 on the digits in two epochs; chance is 0.1.
    assert metrics["test_accuracy"] > 0.8


# -- the table -------------------------------------------------------------------------------------


def test_a_plug_in_solver_is_judged_like_any_other(idl: Idl, tmp_path: Path) -> None:
    # A large penalty on few states: plain proximal gradient reaches the certificate soon.
    request = (
        *("sim", "dataset.train_samples=200", "teacher.hidden_dims=[8]", "teacher.epochs=2"),
        *("trainer.lambda_z=0.3", "trainer.lambda_y=0.3", "trainer.tol=1e-3"),
    )
    mine = idl(*request, "solver=mine", "solver.max_iter=30000", "hydra.run.dir=mine")
    assert mine.returncode == 0, mine.stderr
    built_in = idl(*request, "solver=active_set", "hydra.run.dir=built_in")
    assert built_in.returncode == 0, built_in.stderr
    reports = [
        json.loads((tmp_path / run / "summary.json").read_text())["sim"]
        for run in ("mine", "built_in")
    ]
    assert reports[0]["solver"] == "mine"
    for stage in ("ab", "cd"):
        assert reports[0][stage]["status"] == "optimal"
    # The first stage sees the same teacher, so both stop within a gap of 1e-3 of one optimum.
    first, second = (report["ab"]["objective"] for report in reports)
    assert first == pytest.approx(second, rel=1e-3)
    assert idl(*request, "solver=mine", "solver.max_itr=3").returncode == 2


def test_every_target_can_be_imported_and_called() -> None:
    for group in registry.groups():
        for name in registry.names(group):
            component = registry.find(group, name)
            if component.target is not None:
                assert callable(registry.load(component)), component.target
            assert component.summary


def test_an_unknown_name_or_group_lists_what_there_is() -> None:
    with pytest.raises(ArgumentError, match=r"choose from .*did you mean implicit\?"):
        registry.find("model", "implict")
    with pytest.raises(ArgumentError, match=r"did you mean model\?"):
        registry.names("modle")


def test_build_refuses_what_the_component_does_not_take() -> None:
    with pytest.raises(ArgumentError, match=r"takes no 'kapa' \(did you mean kappa\?\)"):
        registry.build("model", {"name": "implicit", "kapa": 1}, input_dim=2, output_dim=2)
    with pytest.raises(ArgumentError, match="missing a required argument: 'hidden_dim'"):
        registry.build("model", {"name": "implicit"}, input_dim=2, output_dim=2)
    with pytest.raises(ArgumentError, match="input_dim is given by the command"):
        registry.build("model", {"name": "implicit", "input_dim": 1}, input_dim=2, output_dim=2)
    with pytest.raises(ArgumentError, match=r"model\.name"):
        registry.build("model", {"hidden_dim": 3})


def test_build_leaves_out_what_the_command_acts_on() -> None:
    settings = {"name": "implicit", "hidden_dim": 3, "init_run": None}
    model = registry.build("model", settings, input_dim=2, output_dim=1)
    assert model.hidden_dim == 3
