"""The command line as users run it: its output, its exit status, what it leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from idl_cli import __version__
from idl_cli.cli import main
from idl_cli.commands import SUB_COMMANDS
from tests.conftest import Idl, IdlHere

pytestmark = pytest.mark.slow

QUICK = ("trainer.epochs=1", "dataset.train_samples=64", "dataset.test_samples=32")


# -- what answers at once --------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_the_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    for name, summary in SUB_COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", shown, re.MULTILINE)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"idl {__version__}\n"


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tarin", "model=implicit"]) == 2
    captured = capsys.readouterr()
    assert "did you mean train?" in captured.err
    assert captured.out == ""
    assert main(["--verison"]) == 2


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["nosuch"], ["list"], ["list", "model"], ["-sc", "query=bash"]],
)
def test_quick_answers_import_neither_torch_nor_hydra(arguments: list[str]) -> None:
    heavy = {"torch", "hydra", "omegaconf", "rich", "numpy", "yaml", "cvxpy"}
    assert not heavy & _imported_by(arguments)


@pytest.mark.parametrize(
    "arguments", [["train", "--cfg", "job"], ["train", "model.kappa=2"], ["train", "--help"]]
)
def test_showing_or_refusing_a_configuration_does_not_import_torch(arguments: list[str]) -> None:
    imported = _imported_by(arguments)
    assert "hydra" in imported
    assert not {"torch", "cvxpy", "sklearn", "matplotlib"} & imported


def _imported_by(arguments: list[str]) -> set[str]:
    """Names of the top-level modules in memory after ``idl ARGUMENTS``."""
    probe = (
        f"import sys; from idl_cli.cli import main; main({arguments!r})\n"
        "print('', *{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COMP_LINE": "idl train model.act"},
    )
    return set(done.stdout.splitlines()[-1].split())


# -- Hydra's flags behind a sub-command ------------------------------------------------------------


def test_cfg_job_prints_the_composed_configuration(idl_here: IdlHere) -> None:
    done = idl_here("train", "model.hidden_dim=7", "--cfg", "job")
    assert done.status == 0, done.errors
    shown = yaml.safe_load(done.output)
    assert shown["model"]["hidden_dim"] == 7
    assert shown["optimizer"]["name"] == "adam"
    assert "hydra" not in shown


def test_help_of_a_command_shows_options_keys_flags_and_examples(idl_here: IdlHere) -> None:
    done = idl_here("train", "--help")
    assert done.status == 0, done.errors
    assert re.search(r"^  dataset=digits .*cifar10", done.output, re.MULTILINE)
    assert re.search(r"^  model.hidden_dim=100 +number of states", done.output, re.MULTILINE)
    assert "--config-dir DIR" in done.output
    assert "idl train -m seed=0,1,2" in done.output


def test_info_searchpath_shows_a_users_directory(idl_here: IdlHere, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    done = idl_here("train", "--config-dir", "mine", "--info", "searchpath")
    assert done.status == 0, done.errors
    assert "file://" in done.output
    assert "mine" in done.output


def test_flags_may_stand_between_overrides(idl_here: IdlHere, tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "tiny.yaml").write_text("name: implicit\nhidden_dim: 3\n")
    done = idl_here("train", "model=tiny", "--config-dir", "mine", "seed=4", "--cfg", "job")
    assert done.status == 0, done.errors
    assert yaml.safe_load(done.output)["model"] == {"name": "implicit", "hidden_dim": 3}


@pytest.mark.parametrize(
    "flags", [("--config-dir", "nowhere"), ("-m", "--cfg", "job"), ("--nosuchflag",)]
)
def test_wrong_flags_are_a_wrong_request(idl_here: IdlHere, flags: tuple[str, ...]) -> None:
    done = idl_here("train", *flags)
    assert done.status == 2
    assert "Traceback" not in done.errors


# -- refusing --------------------------------------------------------------------------------------


def test_all_mistakes_are_refused_at_once_and_nothing_is_made(
    idl_here: IdlHere, tmp_path: Path
) -> None:
    done = idl_here(
        "train",
        "dataset=nosuch",
        "+nosuchgroup=x",
        "model.kappa=1.2",
        "model.hiden_dim=5",
        "trainer.epochs=ten",
        "trainer=sim",
    )
    assert done.status == 2
    assert done.output == ""
    lines = done.errors.splitlines()
    assert lines[0] == "idl train: 6 mistakes; nothing was started"
    starts = ("dataset=nosuch", "nosuchgroup=x", "model.kappa=1.2", "model.hiden_dim=5")
    starts += ("trainer.epochs=ten", "trainer=sim")
    for start in starts:
        assert sum(line.startswith(f"  {start}: ") for line in lines) == 1, start
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_is_refused_before_its_first_job(idl_here: IdlHere, tmp_path: Path) -> None:
    done = idl_here("train", "-m", "model.kappa=0.5,1.5", "seed=0,1")
    assert done.status == 2
    assert "model.kappa=1.5" in done.errors
    assert list(tmp_path.iterdir()) == []


# -- running ---------------------------------------------------------------------------------------


def test_a_run_leaves_its_directory_where_it_says_and_keeps_it(
    idl: Idl, idl_here: IdlHere, tmp_path: Path
) -> None:
    done = idl("train", *QUICK)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "outputs" / "train").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", run.name)
    assert str(run) in done.stdout.replace("\n", "")
    assert (run / ".hydra" / "overrides.yaml").read_text().split() == [
        word for override in QUICK for word in ("-", override)
    ]
    assert json.loads((run / "summary.json").read_text())["status"] == "completed"
    assert "epoch 1/1" in done.stdout
    assert "epoch 1/1" in (run / "run.log").read_text()
    assert "\x1b" not in done.stdout, "no escape sequences where output is no terminal"

    before = (run / ".hydra" / "config.yaml").read_bytes()
    again = idl_here("train", *QUICK, "seed=5", f"hydra.run.dir={run}")
    assert again.status == 1
    assert "resume=auto" in again.errors
    assert (run / ".hydra" / "config.yaml").read_bytes() == before


def test_a_failed_run_says_why(idl_here: IdlHere, tmp_path: Path) -> None:
    (tmp_path / "broken.npz").touch()
    done = idl_here("train", "dataset=arrays", "dataset.file=broken.npz", "hydra.run.dir=mine")
    assert done.status == 1
    assert "broken.npz" in done.errors
    assert "Traceback" not in done.errors
    summary = json.loads((tmp_path / "mine" / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert "broken.npz" in summary["error"]
    assert "broken.npz" in (tmp_path / "mine" / "run.log").read_text()


@pytest.mark.parametrize(
    "arguments", [("hydra.run.dir=file/run",), ("-m", "hydra.sweep.dir=file/s")]
)
def test_a_place_that_cannot_be_written_is_a_sentence(
    idl_here: IdlHere, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "file").touch()
    refused = idl_here("train", *QUICK, *arguments)
    assert refused.status == 1
    assert "Traceback" not in refused.errors
    assert re.search(r"^idl train: file.*: Not a directory; choose another", refused.errors)


def test_a_sweep_goes_on_after_a_failed_job(idl_here: IdlHere, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    np.savez(
        tmp_path / "good.npz",
        inputs=generator.normal(size=(40, 3)),
        targets=generator.integers(0, 2, size=40),
    )
    (tmp_path / "broken.npz").touch()
    done = idl_here(
        "train",
        "-m",
        "dataset=arrays",
        f"dataset.file={tmp_path}/broken.npz,{tmp_path}/good.npz",
        "trainer.epochs=1",
        "model.hidden_dim=4",
        "hydra.sweep.dir=sweep",
    )
    assert done.status == 1
    statuses = [
        json.loads((tmp_path / "sweep" / job / "summary.json").read_text())["status"]
        for job in "01"
    ]
    assert statuses == ["failed", "completed"]
    assert "job 0 failed" in done.errors
    assert "1 of 2 jobs failed: 0" in done.errors
    assert "broken.npz" in (tmp_path / "sweep" / "0" / "run.log").read_text()
    page = (tmp_path / "sweep" / "sweep.html").read_text()
    assert f"job 0 failed: {tmp_path}/broken.npz: not a NumPy file" in page
    for job in "01":
        assert f'href="{job}/report.html"' in page
        assert (tmp_path / "sweep" / job / "report.html").is_file()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_run_in_order(number: signal.Signals, status: int, tmp_path: Path) -> None:
    overrides = ("trainer.epochs=100000", *QUICK[1:], "hydra.run.dir=mine")
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "idl_cli", "train", *overrides],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process:
        for line in process.stdout:
            if line.startswith("epoch"):
                process.send_signal(number)
                break
        process.communicate(timeout=60)
    assert process.returncode == status
    assert json.loads((tmp_path / "mine" / "summary.json").read_text())["status"] == "interrupted"


def test_an_unforeseen_error_leaves_its_traceback_in_the_log(tmp_path: Path) -> None:
    probe = (
        "import sys, idl_cli.commands.train.run as train\n"
        "def broken(settings, directory, console): raise ZeroDivisionError('a bug')\n"
        "train.run = broken\n"
        "from idl_cli.cli import main; sys.exit(main(['train', 'hydra.run.dir=mine']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "ZeroDivisionError: a bug" in done.stderr
    assert str(tmp_path / "mine" / "run.log") in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in (tmp_path / "mine" / "run.log").read_text()
    summary = json.loads((tmp_path / "mine" / "summary.json").read_text())
    assert (summary["status"], summary["error"]) == ("failed", "ZeroDivisionError: a bug")


# -- list and env ----------------------------------------------------------------------------------


def test_list_shows_every_group_with_summaries(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^  implicit +Implicit model", shown, re.MULTILINE)
    assert re.search(r"^  digits_low_rank  ", shown, re.MULTILINE)


def test_list_shows_a_users_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tiny.yaml").write_text("# Three states.\nname: implicit\n")
    assert main(["list", "model", "--config-dir", str(tmp_path)]) == 0
    assert re.search(r"^  tiny +Three states\.$", capsys.readouterr().out, re.MULTILINE)


def test_list_of_an_unknown_group_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "modle"]) == 2
    assert "did you mean model?" in capsys.readouterr().err


def test_env_tells_versions_and_passes_its_own_check(idl: Idl) -> None:
    import torch

    done = idl("env", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"^torch +{re.escape(torch.__version__)}$", done.stdout, re.MULTILINE)
    assert re.search(r"^threads +1 within an operation", done.stdout, re.MULTILINE)
    assert re.search(r"^ok +an equilibrium solves its equation", done.stdout, re.MULTILINE)
    assert "FAILED" not in done.stdout
