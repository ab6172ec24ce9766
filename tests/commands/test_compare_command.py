"""``idl compare`` on directories as runs leave them."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from idl_cli.cli import main
from idl_cli.commands import module_of
from idl_cli.completion import candidates
from idl_cli.sweeps.jobs import job_rows
from idl_cli.sweeps.recorded_plan import planned_jobs

Captured = pytest.CaptureFixture[str]


def make_run(
    path: Path,
    *,
    solver: str = "cvx",
    lambda_z: float = 1e-3,
    seed: int = 0,
    accuracy: float | None = 0.9,
    error: str | None = None,
    extra: Mapping[str, object] | None = None,
) -> None:
    """A run of ``idl sim`` as its directory looks; without accuracy and error, a killed one."""
    config = {
        "dataset": {"name": "digits"},
        "teacher": {"name": "mlp"},
        "trainer": {"name": "sim", "lambda_z": lambda_z},
        "solver": {"name": solver},
        "logger": {"name": "jsonl"},
        "seed": seed,
        **(extra or {}),
    }
    (path / ".hydra").mkdir(parents=True)
    (path / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config))
    (path / ".hydra" / "hydra.yaml").write_text("hydra: {job: {name: sim}}\n")
    summary: dict[str, object] = {"command": "sim", "seed": seed, "seconds": 1.5}
    if error is not None:
        summary.update(status="failed", metrics={}, error=error)
    elif accuracy is not None:
        sim = {"nonzero_fraction": 0.25, "ab": {"status": "optimal", "relative_gap": 1e-7}}
        summary.update(status="completed", metrics={"test_accuracy": accuracy}, sim=sim)
    else:
        return
    (path / "summary.json").write_text(json.dumps(summary))


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    make_run(tmp_path / "sweep" / "0", solver="cvx", accuracy=0.5)
    make_run(tmp_path / "sweep" / "1", solver="admm", accuracy=0.75)
    make_run(tmp_path / "sweep" / "2", solver="admm", lambda_z=0.1, error="out | of memory")
    make_run(tmp_path / "sweep" / "3", solver="cvx", lambda_z=0.1, accuracy=None)
    return tmp_path / "sweep"


def test_the_table_shows_what_varied_best_first_and_what_failed(
    sweep: Path, capsys: Captured
) -> None:
    assert main(["compare", str(sweep)]) == 0
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert lines[0].startswith("4 runs, 2 completed")
    assert lines[2].split() == ["run", "status", "solver", "lambda_z", "test_accuracy", "seconds"]
    assert [line.split()[0] for line in lines[4:8]] == ["1", "0", "2", "3"]
    assert "2 failed: out | of memory" in lines
    assert "3 killed" in lines
    assert "no room for sim.nonzero_fraction" in shown
    assert max(map(len, lines[:8])) <= 80


def test_runs_and_sweeps_of_several_places_stand_in_one_table(
    sweep: Path, tmp_path: Path, capsys: Captured
) -> None:
    make_run(tmp_path / "old" / "run", accuracy=0.6, extra={"key_of_old": 3, "seed": 7})
    assert main(["compare", str(sweep), str(tmp_path / "old"), "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["run"] for row in rows] == [
        "sweep/1",
        "old/run",
        "sweep/0",
        "sweep/2",
        "sweep/3",
    ]
    assert rows[1]["seed"] == "7"
    assert rows[0]["sim.ab.status"] == "optimal"
    assert rows[3]["error"] == "out | of memory"
    assert main(["compare", str(sweep), str(sweep / "0"), "--columns", "run"]) == 0
    assert capsys.readouterr().out.startswith("4 runs"), "each run once"


def test_sort_and_columns(sweep: Path, capsys: Captured) -> None:
    flags = ["--sort", "lambda_z", "--descending", "--columns", "lambda_z,solver,ab.status"]
    assert main(["compare", str(sweep), *flags, "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["trainer.lambda_z"] for row in rows] == [0.1, 0.1, 1e-3, 1e-3]
    assert list(rows[0]) == ["trainer.lambda_z", "solver", "sim.ab.status"]


def test_what_is_sorted_by_is_shown(
    sweep: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["compare", str(sweep), "--sort", "kappa"]) == 0
    head = capsys.readouterr().out.splitlines()[2]
    assert "kappa" in head
    assert "seconds" not in head, "there is no room for all"


def test_a_completed_run_with_a_damaged_file_says_so(sweep: Path, capsys: Captured) -> None:
    (sweep / "0" / ".hydra" / "config.yaml").write_text("model: {name: [}\n")
    assert main(["compare", str(sweep)]) == 0
    assert "0 completed: " in (shown := capsys.readouterr().out)
    assert "config.yaml: not readable as YAML" in " ".join(shown.split())


def test_defaults_that_a_file_leaves_out_are_known(sweep: Path, capsys: Captured) -> None:
    """A run whose file says ``kappa`` and one whose file does not are told apart by it."""
    own = {"trainer": {"name": "sim", "lambda_z": 1e-3, "kappa": 0.5}}
    make_run(sweep / "4", solver="cvx", accuracy=0.4, extra=own)
    assert main(["compare", str(sweep / "0"), str(sweep / "4"), "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["trainer.kappa"] for row in rows] == [0.95, 0.5]


def test_mean_and_deviation_over_seeds(tmp_path: Path, capsys: Captured) -> None:
    for seed, accuracy in enumerate((0.8, 0.9)):
        make_run(tmp_path / str(seed), seed=seed, accuracy=accuracy)
    make_run(tmp_path / "2", seed=2, error="stopped")
    assert main(["compare", str(tmp_path), "--over", "seed", "--format", "markdown"]) == 0
    shown = capsys.readouterr().out
    assert " 0.850 ± 0.071 |" in shown
    assert "- 2: stopped" in shown
    assert main(["compare", str(tmp_path), "--over", "seed", "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["test_accuracy_mean"] == pytest.approx(0.85)
    assert row["test_accuracy_std"] == pytest.approx(0.0707107, rel=1e-5)
    assert (row["runs"], row["failed"]) == (2, 1)


@pytest.mark.parametrize(
    ("name", "start"),
    [("t.tex", "% \\usepackage"), ("t.md", "| run"), ("t.csv", "run,"), ("t.json", "[\n")],
)
def test_a_files_name_says_its_format(sweep: Path, name: str, start: str, capsys: Captured) -> None:
    assert main(["compare", str(sweep), "--output", f"made/{name}"]) == 0
    assert capsys.readouterr().out == f"wrote made/{name}\n"
    assert Path("made", name).read_text().startswith(start)


def test_a_table_can_be_written_too(sweep: Path) -> None:
    assert main(["compare", str(sweep), "--output", "t.txt"]) == 0
    assert "2 failed: out | of memory" in Path("t.txt").read_text()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["absent"], "absent: there is no such directory"),
        (["."], ".: neither a run nor a folder of runs"),
        (
            ["sweep", "--columns", "solvr"],
            "--columns solvr: no run has such a column (did",
        ),
        (["sweep", "--sort", "trainer.lamda_z"], "(did you mean trainer.lambda_z?)"),
        (["sweep", "--sort", "zzz"], "has such a column; shown are run, status, solver, trainer"),
        (["sweep", "--over", "test_accuracy"], "is no key of the configuration"),
        (["sweep", "--output", "t.pdf"], "no table is written as .pdf; give a name that ends in"),
        (["sweep", "--output", "."], "--output .: is a directory"),
    ],
)
def test_wrong_requests_are_said_in_a_sentence(
    sweep: Path, flags: list[str], sentence: str, capsys: Captured
) -> None:
    if flags == ["."]:
        (sweep.parent / "empty").mkdir()
        os.chdir(sweep.parent / "empty")
    assert main(["compare", *flags]) == 2
    assert sentence in capsys.readouterr().err


def test_plots_cannot_go_into_a_file(sweep: Path, capsys: Captured) -> None:
    Path("taken").write_text("")
    assert main(["compare", str(sweep), "--plots", "taken"]) == 1
    assert "idl compare: taken: File exists; choose another place" in capsys.readouterr().err


def test_it_answers_without_torch(sweep: Path) -> None:
    probe = (
        "import sys; from idl_cli.cli import main; main(['compare', 'sweep'])\n"
        "print({'torch', 'numpy', 'hydra', 'omegaconf', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_completion_offers_folders_and_flags(sweep: Path) -> None:
    assert candidates("idl compare sw", ("compare",), module_of) == ["sweep/"]
    assert candidates("idl compare sweep --f", ("compare",), module_of) == ["--format "]
    assert "latex " in candidates("idl compare sweep --format ", ("compare",), module_of)


def test_plots_are_written_and_named(sweep: Path, capsys: Captured) -> None:
    assert main(["compare", "sweep", "--plots", "figures", "--format", "csv"]) == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "wrote figures/bars.png: test accuracy (share of samples) by solver"
    ]
    assert Path("figures/bars.png").read_bytes().startswith(b"\x89PNG")
    assert captured.out.startswith("run,"), "what is said of plots stays out of the table"
    assert main(["compare", "sweep/0", "--plots", "figures"]) == 0
    assert "warning: no plots" in capsys.readouterr().err


def test_a_run_whose_records_are_damaged_stands_beside_the_good_ones(
    sweep: Path, capsys: Captured
) -> None:
    damages: Mapping[str, tuple[str, bytes]] = {
        "4": ("summary.json", b"[" * 100_000),
        "5": ("summary.json", b'{"status": "completed", "metrics": {"test_accuracy": NaN}}'),
        "6": (".hydra/config.yaml", b"a: &a [x, *a]\n"),
        "7": (".hydra/config.yaml", b"seed: \xff0\n"),
        "8": (".hydra/config.yaml", b"seed: 0\nsolver: [{name: [{}]}]\ntrainer: 3\n1: 2\n"),
        "9": (".hydra/config.yaml", b"trainer: {path: [{a: 1}], lambda_z: [{b: {}}]}\n"),
        "10": ("summary.json", b'{"status": "completed", "metrics": 3}'),
        "11": ("summary.json", b'{"status": "completed", "metrics": {"test_accuracy": 1e999}}'),
    }
    for name, (file, content) in damages.items():
        make_run(sweep / name)
        (sweep / name / file).write_bytes(content)
    make_run(sweep / "12")
    (sweep / "12" / "summary.json").unlink()
    os.mkfifo(sweep / "12" / "summary.json")
    make_run(sweep / "13")
    (sweep / "13" / ".hydra" / "config.yaml").unlink()
    (sweep / "13" / ".hydra" / "config.yaml").mkdir()
    for form in ("csv", "json", "latex", "markdown"):
        assert main(["compare", str(sweep), "--format", form]) == 0
    capsys.readouterr()
    assert main(["compare", str(sweep), "--format", "csv"]) == 0
    rows = {row["run"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert len(rows) == 14
    assert (rows["0"]["test_accuracy"], rows["1"]["test_accuracy"]) == ("0.5", "0.75")
    for name, (file, _) in damages.items():
        if name != "9":  # of another type, which an older version may have had
            assert file in rows[name]["error"], name
        wanted = "unreadable" if file == "summary.json" else "completed"
        assert rows[name]["status"] == wanted
    assert "is a pipe" in rows["12"]["error"]
    assert "is a directory" in rows["13"]["error"]


def test_a_sweep_with_a_damaged_job_has_its_table(sweep: Path) -> None:
    for number in range(4):
        (sweep / str(number) / ".hydra" / "overrides.yaml").write_text(f"- seed={number}\n")
    (sweep / "0" / ".hydra" / "overrides.yaml").write_bytes(b"- seed=\xff0\n")
    (sweep / "1" / "summary.json").write_bytes(b"[" * 100_000)
    rows = {row["job"]: row for row in job_rows(planned_jobs(sweep), sweep)}
    assert [rows[number]["status"] for number in range(4)] == [
        "failed",
        "failed",
        "failed",
        "killed",
    ]
    assert "overrides.yaml" in str(rows[0]["error"])
    assert "summary.json" in str(rows[1]["error"])
    assert rows[2]["error"] == "out | of memory"


def test_a_directory_whose_name_is_no_text_is_shown(sweep: Path, capsys: Captured) -> None:
    odd = sweep / os.fsdecode(b"caf\xe9")
    make_run(odd)
    (odd / ".hydra" / "config.yaml").write_text("a: [1\n")
    for form in ("table", "csv", "json", "latex", "markdown"):
        assert main(["compare", str(sweep), "--format", form]) == 0
        shown = capsys.readouterr().out
        shown.encode()
        assert "caf" in shown
