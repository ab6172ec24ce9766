"""Paths of a request: they must lead somewhere, and a home directory may be written as ``~``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from idl_cli.requests.overrides import with_home
from tests.conftest import IdlHere


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("train dataset=arrays dataset.file=x.npz", "dataset.file=x.npz: no such file or dir"),
        ("train dataset=arrays dataset.file=file dataset.target=x", "dataset.target=x: no such f"),
        ("train model=rnn dataset=csv dataset.file=x dataset.target=t", "dataset.file=x: no such"),
        ("train dataset=mnist dataset.root=x", "dataset.root=x: no such directory"),
        ("train dataset=cifar10 dataset.root=file", "dataset.root=file: is no directory"),
        ("train model.init_run=x", "model.init_run=x: no such directory"),
        ("train model=gru dataset=spiky model.init_run=x", "model.init_run=x: no such directory"),
        ("train resume=x", "resume=x: no such directory"),
        ("train sweep.resume=x", "sweep.resume=x: there is no such directory"),
        ("sim teacher=run teacher.run=x", "teacher.run=x: no such directory"),
        ("sim teacher.run=x", "teacher.run=x: no such directory"),
        ("sim resume=x", "resume=x: no such directory"),
        ("sim trainer.load_statistics=x", "trainer.load_statistics=x: no such file"),
        ("sim trainer.load_statistics=.", "trainer.load_statistics=.: is no file"),
        ("eval run=x", "run=x: no such directory"),
        ("compare x", "x: there is no such directory"),
        ("train -m dataset=mnist dataset.root=.,x", "dataset.root=x: no such directory"),
        ("sim -m teacher.run=.,y", "teacher.run=y: no such directory"),
        ("eval -m run=.,x", "run=x: no such directory"),
        ("train model.init_run=''", "model.init_run=: names no directory"),  # an empty $RUN
        ("train resume=''", "resume=: names no directory"),
        ("train dataset=arrays dataset.file=''", "dataset.file=: names no file or directory"),
        ("train hydra.run.dir=''", "hydra.run.dir=: names no directory"),
        ("train -m seed=0,1 hydra.sweep.dir=''", "hydra.sweep.dir=: names no directory"),
        ("train dataset=mnist dataset.mirror=''", "must be an address, https://HOST/DIRECTORY"),
        ("train hydra.run.dir=${oc.env:NO_SUCH}", "hydra.run.dir: KeyError raised while resolving"),
        ("train -m seed=0,1 hydra.sweep.dir=${nope}", "hydra.sweep.dir: Interpolation key 'nope'"),
        ("train hydra.verbose=nan", "hydra.verbose=nan: must be true, false, or names"),
    ],
)
def test_a_path_that_leads_nowhere_is_a_wrong_request(
    idl_here: IdlHere, arguments: str, said: str
) -> None:
    Path("file").touch()
    done = idl_here(*arguments.split())
    assert done.status == 2
    assert said in done.errors
    assert [each.name for each in Path().iterdir()] == ["file"]  # nothing was started


def test_a_configuration_is_shown_whatever_its_paths(idl_here: IdlHere) -> None:
    done = idl_here("train", "dataset=arrays", "dataset.file=x.npz", "--cfg", "job")
    assert done.status == 0
    assert "file: x.npz" in done.output


def test_home_directories(
    idl_here: IdlHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    missing = idl_here("train", "dataset=arrays", "dataset.file=~/my data.npz")
    assert missing.status == 2
    assert f"dataset.file={tmp_path}/my data.npz: no such file" in missing.errors
    assert "mistakes" not in missing.errors
    labels = np.arange(20) % 2
    np.savez(tmp_path / "my data.npz", x=labels[:, None] + np.arange(3.0), y=labels)
    done = idl_here(
        "train",
        "dataset=arrays",
        "dataset.file=~/my data.npz",
        "trainer.epochs=1",
        "report=false",
        "hydra.run.dir=~/run",
    )
    assert done.status == 0, done.errors
    assert (tmp_path / "run" / "summary.json").is_file()
    assert idl_here("eval", "run=~/run", "report=false").status == 0


def test_only_a_value_that_begins_with_a_tilde_is_a_home_directory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/h")
    for text in ("~logger", "~a=b", "a=x~y", "a=[~/x]", "a='~/x'", "--flag"):
        assert with_home(text) == text
    assert with_home("a=~/x") == "a='/h/x'"
    assert with_home("+a=~/it's") == r"+a='/h/it\'s'"
    assert with_home("a=/t,~/x,~/y") == "a=/t,'/h/x','/h/y'"


def test_a_value_that_cannot_be_read_is_not_missing_besides(idl_here: IdlHere) -> None:
    done = idl_here("train", "dataset=arrays", "dataset.file=a{b")
    assert done.status == 2
    assert "cannot be read as KEY=VALUE" in done.errors
    assert "missing" not in done.errors
