"""The built wheel carries the configs and works without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]


def _run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    result = _run(*build, str(PROJECT), cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel alone in a folder of its own, which goes before the checkout on the path."""
    folder = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    result = _run(*install, "--target", str(folder), str(wheel), cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder


def test_wheel_holds_every_config_and_nothing_but_the_package(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {path.relative_to(PROJECT) for path in (PROJECT / "configs").rglob("*.yaml")}
    assert configs
    assert {f"idl_cli/{path.as_posix()}" for path in configs} <= names
    assert "idl_cli/py.typed" in names
    assert {f"idl_cli/analysis/templates/page.{end}" for end in ("html", "css")} <= names
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {"idl_cli"}


def test_installed_wheel_composes_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    where = _run(
        sys.executable,
        "-c",
        "import idl_cli; print(idl_cli.__file__)",
        cwd=tmp_path,
        PYTHONPATH=str(installed),
    )
    assert Path(where.stdout.strip()).is_relative_to(installed)
    composed = _run(
        *(sys.executable, "-m", "idl_cli", "train", "--cfg", "job", "model.hidden_dim=7"),
        cwd=tmp_path,
        PYTHONPATH=str(installed),
    )
    assert composed.returncode == 0, composed.stderr
    assert "hidden_dim: 7" in composed.stdout


def test_installed_wheel_trains_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    trained = _run(
        *(sys.executable, "-m", "idl_cli", "train", "debug=fast", "hydra.run.dir=run"),
        cwd=tmp_path,
        PYTHONPATH=str(installed),
    )
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "run" / "summary.json").is_file()
    assert (tmp_path / "run" / "model.safetensors").is_file()
