"""Every extrapolation preset, shortened: jobs, one table, one figure; evaluation elsewhere."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from idl_cli.errors import ConfigError
from idl_cli.requests.preflight import Request, preflight
from tests.conftest import IdlHere
from tests.sub_commands import COMMANDS

pytestmark = pytest.mark.slow

PRESETS = {
    "argmax": ("rnn", "argmax/lstm", "lstm"),
    "identity": ("identity/implicit", "identity/mlp"),
    "rolling_mean": ("rnn", "rolling_mean/lstm"),
    "arithmetic": ("arithmetic/implicit", "arithmetic/mlp"),
    "spiky": ("spiky/rnn", "spiky/lstm"),
}
NUMBERS = ("dataset.train_samples=200", "dataset.test_samples=100")
POINTS = ("dataset.points=600", "dataset.bursts=2", "dataset.burst_points=50")


# Two seeds where deviations are looked at, one elsewhere: these tests take the most time.
SEEDS = {name: (0, 5) if name == "argmax" else (5,) for name in PRESETS}


def _small(name: str) -> tuple[str, ...]:
    size = POINTS if name == "spiky" else NUMBERS
    return (*size, "trainer.epochs=1", "threads=1", "dataset.shifts=[1,1e5]")


@pytest.mark.filterwarnings("default:mape")  # of bursts with zeros between them
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_leaves_one_table_and_one_figure(
    idl_here: IdlHere, tmp_path: Path, name: str
) -> None:
    seeds = SEEDS[name]
    done = idl_here(
        "train",
        "-m",
        f"experiment=extrapolation_{name}",
        f"seed={','.join(map(str, seeds))}",
        *_small(name),
        f"report={str(name == 'argmax').lower()}",  # pages take a third of the time
        "hydra.sweep.dir=sweep",
    )
    assert done.status == 0, done.errors
    assert "did not converge" not in done.errors
    sweep = tmp_path / "sweep"
    with (sweep / "sweep.csv").open(newline="") as file:
        jobs = list(csv.DictReader(file))
    # The user's seeds have taken the place of the preset's three.
    ran = [
        (job["model"], json.loads((sweep / job["dir"] / "summary.json").read_text())["seed"])
        for job in jobs
    ]
    assert ran == [(model, seed) for model in PRESETS[name] for seed in seeds]
    assert {job["status"] for job in jobs} == {"completed"}
    table = json.loads((sweep / "extrapolation.json").read_text())
    assert [(row["variant"], row["shift"], row["runs"]) for row in table["rows"]] == [
        (model, shift, len(seeds)) for model in PRESETS[name] for shift in (1.0, 1e5)
    ]
    if name == "argmax":
        sizes = [row["parameters"] for row in table["rows"]]
        assert sizes == [1850, 1850, 1872, 1872, 2050, 2050]
    errors = [
        json.loads((sweep / str(job) / "shift.json").read_text())["rows"][1]["error"]
        for job in range(len(seeds))
    ]
    assert table["rows"][1]["error_mean"] == pytest.approx(sum(errors) / len(errors))
    deviation = table["rows"][1]["error_std"]
    assert deviation is None if len(seeds) == 1 else deviation >= 0
    assert (sweep / "extrapolation.png").stat().st_size > 1000
    assert done.output.count("shift f ") == 1, "the table of the sweep is shown once"
    implicit = [row for row in table["rows"] if "unconverged_share_max" in row]
    assert len(implicit) == 2
    assert all(row["unconverged_share_max"] <= 1e-3 for row in implicit)


@pytest.mark.parametrize("name", PRESETS)
def test_models_of_a_preset_are_of_about_equal_size(name: str) -> None:
    from idl_cli import registry
    from idl_cli.assembly.objects import model_sizes

    counts = []
    for model in PRESETS[name]:
        overrides = (f"experiment=extrapolation_{name}", f"model={model}")
        settings = preflight(Request(COMMANDS["train"], COMMANDS, overrides, root="train")).settings
        small = {"test_samples": 10, "train_samples": 10} if name != "spiky" else {}
        task = registry.build("dataset", {**settings["dataset"], **small}, seed=0).task
        sizes = model_sizes(settings["model"], task)
        made = registry.build("model", settings["model"], **sizes)
        counts.append(sum(p.numel() for p in made.parameters()))
    # The third of argmax is the published LSTM: 2,050 beside 1,850.
    assert max(counts[:2]) / min(counts[:2]) < 1.02


def test_what_a_preset_would_sweep_over_is_checked(tmp_path: Path) -> None:
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "mine.yaml").write_text(
        "# @package _global_\n# Mine.\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n"
        "      model: rnn,lstn\n      seed: 0,-1\n"
    )
    request = Request(
        COMMANDS["train"], COMMANDS, ("experiment=mine",), root="train", search_path=(tmp_path,)
    )
    with pytest.raises(ConfigError) as caught:
        preflight(request)
    assert any("model=lstn: no such option" in problem for problem in caught.value.problems)
    assert any("seed=-1" in problem for problem in caught.value.problems)


def test_a_run_is_evaluated_at_other_shifts_and_ranges(idl_here: IdlHere, tmp_path: Path) -> None:
    trained = idl_here(
        "train", "model=rnn", "dataset=argmax", *_small("argmax"), "hydra.run.dir=run"
    )
    assert trained.status == 0, trained.errors
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [row["shift"] for row in summary["shift"]] == [1.0, 1e5]
    assert {"shift.csv", "shift.json", "shift.png"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }

    farther = idl_here("eval", "run=run", "shifts=[2,1e5,1e6]", "hydra.run.dir=eval")
    assert farther.status == 0, farther.errors
    rows = json.loads((tmp_path / "eval" / "summary.json").read_text())["shift"]
    assert [row["shift"] for row in rows] == [2.0, 1e5, 1e6]
    assert rows[0]["accuracy"] == summary["metrics"]["test_accuracy"]
    assert rows[1] == summary["shift"][1]

    elsewhere = idl_here(
        "eval",
        "run=run",
        "dataset.test_range=[-5e4,5e4]",
        "dataset.shifts=[]",
        "hydra.run.dir=range",
    )
    assert elsewhere.status == 0, elsewhere.errors
    metrics = json.loads((tmp_path / "range" / "summary.json").read_text())["metrics"]
    assert metrics["test_accuracy"] == rows[1]["accuracy"]  # on the run's 100 samples

    unknown = idl_here("eval", "run=run", "dataset.test_rnage=[-5,5]")
    assert unknown.status == 2
    assert "did you mean dataset.test_range?" in unknown.errors
    nowhere = idl_here("eval", "run=nowhere", "dataset.test_range=[-5,5]")
    assert nowhere.status == 2
    assert "run=nowhere" in nowhere.errors


def test_shifts_of_a_data_set_that_has_none_are_refused(idl_here: IdlHere, tmp_path: Path) -> None:
    trained = idl_here("train", "dataset.train_samples=50", "trainer.epochs=1", "hydra.run.dir=run")
    assert trained.status == 0, trained.errors
    done = idl_here("eval", "run=run", "shifts=[2]", "hydra.run.dir=eval")
    assert done.status == 2
    assert "shifts=[2.0]: dataset=digits has no shifts" in done.errors
