"""A sub-command is one file and one line: that of docs/extending.md, used from the shell."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from idl_cli.models.implicit import ImplicitModel
from idl_cli.run import RunDirectory
from tests.documented import DOCS, ROOT
from tests.forking import completed

pytestmark = pytest.mark.slow

Idl = Callable[..., "subprocess.CompletedProcess[str]"]


MATRIX = torch.tensor([[0.1, 0.2, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.3]])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the program with the documented command, in a directory with one run."""
    home = tmp_path_factory.mktemp("copy")
    package = home / "idl_cli"
    shutil.copytree(ROOT / "idl_cli", package, ignore=shutil.ignore_patterns("__pycache__"))
    (home / "configs").symlink_to(ROOT / "configs")
    page = (DOCS / "extending.md").read_text(encoding="utf-8")
    section = page[page.index("## A sub-command") : page.index("## A solver")]
    file, line = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (package / "commands" / "norms.py").write_text(file)
    table = package / "commands" / "__init__.py"
    last = '        "env": '
    before, after = table.read_text().split(last)
    table.write_text(f"{before}        {line}{last}{after}")
    with RunDirectory(home / "made", command="train", seed=0) as directory:
        model = ImplicitModel(2, 1, 3)
        with torch.no_grad():
            model.A.copy_(MATRIX)
        directory.save_model(
            model,
            name="implicit",
            arguments=model.constructor_arguments(),
            preprocessing=None,
            task=None,
        )
        directory.finish("completed", {})
    return home


@pytest.fixture(scope="module")
def idl(home: Path) -> Idl:
    """The copy's program, in its directory."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return completed(arguments, home, {"PYTHONPATH": str(home), **environment})

    return run


def test_it_is_in_the_help_and_completed(idl: Idl) -> None:
    assert re.search(r"norms +how large the matrix A of a run is", idl("--help").stdout)
    page = idl("norms", "--help").stdout
    assert page.startswith("usage: idl norms ")
    assert "norm=infinity" in page
    assert "idl norms run=DIR --cfg job" in page
    line = "idl norms norm="
    offered = idl("-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line))).stdout
    assert offered.split() == ["norm=infinity", "norm=spectral"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nrom=spectral", "run=made"), "did you mean norm"),
        (("norm=frobenius", "run=made"), "infinity, spectral"),
        ((), "run: missing"),
        (("run=elsewhere",), "run=elsewhere: no such directory"),
    ],
)
def test_its_mistakes_are_sentences(idl: Idl, arguments: tuple[str, ...], sentence: str) -> None:
    done = idl("norms", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("idl norms: ")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_a_sweep_in_other_processes_and_their_comparison(home: Path, idl: Idl) -> None:
    done = idl("norms", "run=made", "hydra.run.dir=one")
    assert done.returncode == 0, done.stderr
    summary = json.loads((home / "one" / "summary.json").read_text())
    assert (summary["command"], summary["status"]) == ("norms", "completed")
    assert summary["metrics"]["norm_A"] == pytest.approx(0.5)  # of A's second row
    page = (home / "one" / "report.html").read_text()
    assert "idl norms" in page
    done = idl(
        *("norms", "-m", "run=made", "norm=infinity,spectral", "hydra.sweep.dir=sweep"),
        *("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    )
    assert done.returncode == 0, done.stderr
    compared = idl("compare", "sweep", "--format", "json", "--columns", "norm,norm_A")
    found = {row["norm"]: row["norm_A"] for row in json.loads(compared.stdout)}
    assert found["infinity"] == pytest.approx(0.5)
    assert found["spectral"] == pytest.approx(float(torch.linalg.matrix_norm(MATRIX, 2)))
