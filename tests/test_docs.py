"""The site: complete, current, and without a link that leads nowhere."""

from __future__ import annotations

import inspect
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import nbformat
import pytest

from docs import reference
from idl_cli import registry
from idl_cli.commands import SUB_COMMANDS
from idl_cli.config.keys import section_of
from tests.conftest import Idl
from tests.documented import install_examples
from tests.sub_commands import COMMANDS

DOCS = Path(reference.__file__).parent

# Public names of torchidl 0.0.4 and the arguments of their constructors and public methods.
TORCHIDL: Mapping[str, tuple[str, ...]] = {
    "ImplicitModel": (
        *("input_dim", "output_dim", "hidden_dim", "f", "no_D", "bias", "mitr", "grad_mitr"),
        *("tol", "grad_tol", "kappa", "is_low_rank", "rank", "U", "X0"),
    ),
    "ImplicitFunction": (
        *("set_parameters", "mitr", "grad_mitr", "tol", "grad_tol", "kappa", "phi", "dphi"),
        *("inn_pred", "inn_pred_grad"),
    ),
    "ImplicitFunctionInf": (),
    "ImplicitFunctionTriu": (),
    "ImplicitFunctionWarning": (),
    "project_onto_Linf_ball": ("A", "kappa"),
    "transpose": (),
    "ImplicitRNN": ("input_dim", "output_dim", "implicit_hidden_dim", "hidden_dim", "kwargs", "x"),
    "ImplicitRNNCell": ("input_dim", "implicit_hidden_dim", "hidden_dim", "kwargs", "x"),
    "SIM": (
        *("activation_fn", "kappa", "atol", "skip_layers", "standardize", "device", "dtype"),
        *("to", "get_states", "train", "solver", "model", "dataloader", "states_data_path"),
        *("save_states_path", "evaluate", "weights", "input"),
    ),
    "BaseSolver": ("solve", "X", "U", "Z", "Y", "model_config"),
    "CVXSolver": (
        *("num_row", "batch_size", "num_processes", "lambda_y", "lambda_z", "l1_ratio"),
        *("elastic_net", "regularized", "well_pose", "regen_states", "tol", "verbose"),
    ),
    "ADMMSolver": (
        *("num_epoch_ab", "num_epoch_cd", "lambda_y", "lambda_z", "rho_ab", "rho_cd"),
        *("batch_feature_size", "regen_states", "tol", "plot_loss", "parallel_solve_matrix"),
        "run_solve_opt_problem",
    ),
    "ADMMMultiGPUSolver": ("gpu_ids",),
    "ProjectedGDLowRankSolver": (
        *("rank", "num_epoch", "lambda_z", "lr", "verbose_epoch", "regen_states", "tol"),
    ),
    "LeastSquareSolver": ("regen_states", "tol"),
    "HookManager": ("register_hooks", "hook_fn"),
    "fixpoint_iteration": ("max_iter", "atol", "patience"),
    "ADMM_AB": (),
    "ADMM_CD": (),
    "LowRankModel": (),
    "Trainer": (),
}


@pytest.mark.parametrize("name", TORCHIDL)
def test_every_name_of_torchidl_has_its_counterpart(name: str) -> None:
    page = (DOCS / "from_torchidl.md").read_text(encoding="utf-8")
    text = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    spoken_of = [*re.findall(r"`([^`]+)`", text), *re.findall(r"^## .*", text, re.MULTILINE)]
    words = set(re.findall(r"\w+", " ".join(spoken_of)))
    missing = [each for each in (name, *TORCHIDL[name]) if each not in words]
    assert not missing


@pytest.mark.parametrize("name", TORCHIDL)
def test_the_list_above_is_what_torchidl_has(name: str) -> None:
    """Only where torchidl is installed: no argument of a constructor is left out of the list."""
    torchidl = pytest.importorskip("torchidl")
    solvers = pytest.importorskip("torchidl.sim.solvers")
    found = getattr(torchidl, name, None) or getattr(solvers, name, None)
    if found is None or not isinstance(found, type) or issubclass(found, Warning):
        pytest.skip("no class with arguments")
    arguments = set(inspect.signature(found.__init__).parameters) - {"self", "args"}
    listed = {*TORCHIDL[name], *(TORCHIDL["ADMMSolver"] if "ADMM" in name else ())}
    assert arguments - {"kwargs"} <= listed


# -- what is made from the code --------------------------------------------------------------------


def _keys(schema: type, prefix: str = "") -> list[str]:
    found = []
    hints = get_type_hints(schema, include_extras=True)
    for item in fields(schema):
        section = section_of(hints[item.name])
        if section is not None:
            found += _keys(section, f"{prefix}{item.name}.")
        elif item.name != "name":
            found.append(f"{prefix}{item.name}")
    return found


def _rows(page: str) -> dict[str, list[str]]:
    cells = (re.split(r"(?<!\\)\|", line) for line in page.splitlines() if line.startswith("| `"))
    return {row[1].strip(" `"): [each.strip() for each in row[2:-1]] for row in cells}


def test_every_key_is_in_the_reference_with_its_meaning() -> None:
    page = reference.keys_page()
    rows = _rows(page)
    for group in registry.groups():
        for name, schema in registry.built_in_schemas(group).items():
            assert f"### `{group}={name}`" in page
            for key in _keys(schema):
                default, allowed, meaning = rows[f"{group}.{key}"]
                assert default, key
                assert allowed, key
                assert meaning, f"{group}.{key} has no comment in its YAML"
    for command in COMMANDS.values():
        for key in _keys(command.schema):
            if key not in registry.groups() and command.name in SUB_COMMANDS:
                assert rows[key][2], f"{command.name}.yaml: {key} has no comment"


def test_a_row_of_the_reference() -> None:
    default, allowed, meaning = _rows(reference.keys_page())["model.forward.tol"]
    assert default == "`1e-05`"
    assert allowed.startswith("a number")
    assert "converged sample" in meaning


def test_a_key_that_may_be_a_section_among_others_is_one_row() -> None:
    default, allowed, _ = _rows(reference.keys_page())["trainer.path"]
    assert default == "`null`"
    assert "a list" in allowed
    assert "trainer.path.points" not in _rows(reference.keys_page())


def test_every_command_is_in_the_reference() -> None:
    page = reference.commands_page()
    for name in SUB_COMMANDS:
        assert f"## `idl {name}`" in page
    assert "positional arguments" in page
    assert "| `solver` | `active_set` |" in page


# -- the site and the notebook -------------------------------------------------------------------


def test_the_site_builds_without_a_broken_link(tmp_path: Path) -> None:
    build = pytest.importorskip("mkdocs.commands.build")
    load_config = pytest.importorskip("mkdocs.config").load_config
    said: list[str] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING:
                said.append(record.getMessage())

    handler = Listening()
    logging.getLogger("mkdocs").addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            build.build(load_config(str(DOCS.parent / "mkdocs.yml"), site_dir=str(tmp_path)))
    finally:
        logging.getLogger("mkdocs").removeHandler(handler)
    assert not said
    keys = (tmp_path / "reference" / "keys" / "index.html").read_text(encoding="utf-8")
    assert "trainer.lambda_z" in keys


@pytest.mark.filterwarnings("ignore::idl_cli.errors.PoorFitWarning")  # of its large λ
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell in order, in one namespace, as a kernel would; figures go nowhere."""
    import matplotlib as mpl

    monkeypatch.chdir(tmp_path)
    mpl.use("Agg")
    notebook = nbformat.read(DOCS / "tutorial.ipynb", as_version=4)
    nbformat.validate(notebook)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            assert not cell.outputs, "outputs are not kept in git"
            exec(compile(cell.source, f"tutorial.ipynb[{number}]", "exec"), namespace)
    assert namespace["report"]["ab"]["status"] in ("optimal", "at_precision")


# -- the examples of plug-ins ----------------------------------------------------------------------


@pytest.fixture
def my_package(tmp_path: Path) -> Path:
    install_examples(tmp_path)
    return tmp_path


def test_the_examples_of_plug_ins_work(idl: Idl, my_package: Path) -> None:
    path = os.pathsep.join([str(my_package), *sys.path])
    small = ["dataset.train_samples=200", "teacher.epochs=1", "threads=1"]
    solved = idl(
        *["sim", "solver=gradient", "trainer.lambda_z=1e-2", "solver.max_iter=500", *small],
        "hydra.run.dir=solved",
        PYTHONPATH=path,
    )
    assert solved.returncode == 0, solved.stderr
    trained = idl(
        *["train", "model=two_layers", "model.width=16", "dataset=rings", "logger=tally"],
        *["trainer.epochs=2", "threads=1", "hydra.run.dir=trained"],
        PYTHONPATH=path,
    )
    assert trained.returncode == 0, trained.stderr
    sim = json.loads((my_package / "solved" / "summary.json").read_text())["sim"]
    assert sim["solver"] == "gradient"
    assert sim["inf_norm_A"] <= 0.95
    rows = len((my_package / "trained" / "metrics.jsonl").read_text().splitlines())
    assert (my_package / "trained" / "rows.txt").read_text() == f"{rows} rows, completed"
