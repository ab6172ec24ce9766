"""``report.html`` and ``sweep.html`` as runs leave them."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

from idl_cli.reports.run_page import run_page
from idl_cli.sweeps.page import write_sweep_page
from tests.commands.test_compare_command import make_run
from tests.conftest import IdlHere
from tests.sub_commands import COMMANDS

QUICK = ("trainer.epochs=2", "dataset.train_samples=64", "dataset.test_samples=32")


def shown(page: str) -> str:
    """The page's words, tags and pictures left out."""
    body = page.partition("<body>")[2]
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_a_training_leaves_its_report(idl_here: IdlHere, tmp_path: Path) -> None:
    done = idl_here("train", *QUICK, "model.kappa=0.5", "hydra.run.dir=run")
    assert done.status == 0, done.errors
    text = shown(Path("run/report.html").read_text())
    assert text.startswith("idl train completed implicit on digits run · ")
    assert "test accuracy" in text
    assert "Loss and score by epoch" in text
    assert "key value default dataset.test_samples 32 null" in text
    assert "model.kappa 0.5 0.95" in text
    assert "packages" in text
    assert "epoch 2/2" in text, "the log"
    assert Path("run/report.html").read_text().count("data:image/png") == 2
    again = idl_here("eval", "run=run", "hydra.run.dir=eval", "report=false")
    assert again.status == 0, again.errors
    assert not Path("eval/report.html").exists()
    (tmp_path / "eval" / "report.html").write_text(run_page(tmp_path / "eval", COMMANDS))
    assert "run on digits" in shown(Path("eval/report.html").read_text())


def test_a_failed_run_says_why_in_its_report(idl_here: IdlHere) -> None:
    Path("<broken>.npz").touch()
    done = idl_here("train", "dataset=arrays", "dataset.file='<broken>.npz'", "hydra.run.dir=run")
    assert done.status == 1
    page = Path("run/report.html").read_text()
    assert "<broken>" not in page
    text = shown(page)
    assert "idl train failed" in text
    assert "What went wrong <broken>.npz: not a NumPy file" in text
    assert "dataset.file <broken>.npz" in text


def test_a_report_that_cannot_be_written_fails_no_run(idl_here: IdlHere, tmp_path: Path) -> None:
    assert idl_here("train", *QUICK, "hydra.run.dir=run").status == 0
    (tmp_path / "run" / "report.html").unlink()
    (tmp_path / "run" / "report.html").mkdir()
    done = idl_here("train", *QUICK, "trainer.epochs=2", "hydra.run.dir=run", "resume=auto")
    assert done.status == 0
    assert "report.html was not written" in done.errors


def test_warnings_of_the_log_stand_in_the_report(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    line = "2026-01-31 12:00:00,123 WARNING idl_cli: κ is close to 1\n"
    (tmp_path / "run" / "run.log").write_text(2 * line + line.replace("WARNING", "INFO"))
    text = shown(run_page(tmp_path / "run", COMMANDS))
    assert text.count("κ is close to 1") == 1 + 3, "once as a warning, thrice in the log"
    assert "relative gap 1e-7 optimal" in text
    assert "non-zero weights 25.0 %" in text


def test_metrics_of_no_part_are_shown_too(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    summary = {"command": "certify", "status": "completed", "metrics": {"certified_accuracy": 0.5}}
    (tmp_path / "run" / "summary.json").write_text(json.dumps(summary))
    assert "certified accuracy 50.00 %" in shown(run_page(tmp_path / "run", COMMANDS))


def test_a_path_is_a_table_with_the_kept_point_marked(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    rows = (
        "method,lambda_z,nonzeros,nonzero_fraction\n"
        "SIM,0.001,7,0.5\nSIM,1e-05,9,0.6\npruned,,7,\npruned,,9,\n"
    )
    (tmp_path / "run" / "path.csv").write_text(rows)
    (tmp_path / "run" / "path.json").write_text(json.dumps({"kept_lambda_z": 1e-5}))
    page = run_page(tmp_path / "run", COMMANDS)
    said = shown(page)
    along = "Along the path of λ (2 rows) λ_z non-zeros of all weights 0.001 7 50.0 % 1e-5 9 60.0 %"
    assert along in said
    assert "The teacher pruned by magnitude (2 rows) non-zeros 7 9" in said
    marked = page.split('<tr class="marked">')
    assert len(marked) == 2
    assert "1e-5" in marked[1].split("</tr>")[0]


def test_a_path_whose_figures_are_lost_marks_no_point(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    (tmp_path / "run" / "path.csv").write_text("method,lambda_z,nonzeros\nSIM,,\nSIM,0.1,x\n")
    (tmp_path / "run" / "path.json").write_text("[]")
    page = run_page(tmp_path / "run", COMMANDS)
    assert "Along the path of λ" in page
    assert 'class="marked"' not in page


def test_a_sweep_links_its_jobs_and_names_what_failed(tmp_path: Path) -> None:
    for number, solver in enumerate(("cvx", "admm")):
        for seed in (0, 1):
            path = tmp_path / str(2 * number + seed)
            make_run(path, solver=solver, seed=seed, accuracy=0.5 + 0.1 * number + 0.01 * seed)
            (path / "report.html").write_text("x")
    make_run(tmp_path / "4", solver="active_set", error="out of <memory>")
    make_run(tmp_path / "5", solver="projected_gd", accuracy=None)
    write_sweep_page(tmp_path, COMMANDS)
    page = (tmp_path / "sweep.html").read_text()
    text = shown(page)
    assert "idl sim -m incomplete solver × seed on digits" in text
    assert "jobs 6 4 completed, 1 failed, 1 killed" in text
    assert "best test accuracy 61.00 % job 3" in text
    assert "job 4 failed: out of <memory> job 5 killed" in text
    assert "2 runs completed admm 2 0.6050 ± 0.0071" in text
    links = re.findall(r'<td><a href="([^"]*)">(\d)</a>', page)
    assert links[0] == ("3/report.html", "3")
    assert ("5/", "5") in links
    assert (tmp_path / "bars.png").exists()
    assert page.count("data:image/png") == 1


def test_a_sweep_is_incomplete_while_jobs_have_not_started(tmp_path: Path) -> None:
    for number, solver in enumerate(("cvx", "admm")):
        make_run(tmp_path / str(number), solver=solver, accuracy=0.5)
    write_sweep_page(tmp_path, COMMANDS)
    text = shown((tmp_path / "sweep.html").read_text())
    assert "idl sim -m completed" in text
    assert "not started" not in text
    write_sweep_page(tmp_path, COMMANDS, waiting=(2, 3))
    text = shown((tmp_path / "sweep.html").read_text())
    assert "idl sim -m incomplete" in text
    assert "jobs 4 2 completed, 2 not started" in text
    assert "job 2 not started job 3 not started" in text


def test_the_configuration_of_a_sweep_is_what_all_of_its_jobs_have(tmp_path: Path) -> None:
    for number, (solver, steps) in enumerate({"cvx": 77777, "admm": 88888}.items()):
        extra = {"solver": {"name": solver, "max_iter": steps}, "dtype": "float64"}
        make_run(tmp_path / str(number), accuracy=0.5, extra=extra)
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "summary.json").write_text("{")
    write_sweep_page(tmp_path, COMMANDS)
    text = shown((tmp_path / "sweep.html").read_text())
    assert "dtype float64 float32" in text
    assert "77777" not in text
    assert "88888" not in text


def test_a_sweep_whose_jobs_want_no_report_has_none(tmp_path: Path) -> None:
    make_run(tmp_path / "0", extra={"report": False})
    write_sweep_page(tmp_path, COMMANDS)
    assert not (tmp_path / "sweep.html").exists()
