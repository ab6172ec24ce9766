"""``idl sim trainer.path=…``: one run, many certified models, the pruned teacher beside them."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
import torch

from idl_cli import load_model
from idl_cli.assembly.compute import Compute
from idl_cli.assembly.fine_tuning import FineTuning
from idl_cli.assembly.teacher import Teacher
from idl_cli.commands.sim.pruning_baseline import FINE_TUNED, PRUNED, fine_tuned_rows
from idl_cli.data.images.digits import digits
from idl_cli.models.explicit import MLP
from idl_cli.models.parameter_count import parameter_count
from idl_cli.models.pruning import count_nonzeros
from tests.commands.helpers import SIM, read_json, summary_of
from tests.conftest import IdlHere

# Of teachers of few epochs and λ that leave few weights.
pytestmark = pytest.mark.filterwarnings("default::idl_cli.errors.PoorFitWarning")

QUICK = (*SIM, "trainer.prune_zeros=[0.5,0.9]", "trainer.prune_epochs=1")


def test_a_path_leaves_a_certified_model_a_lambda_and_the_pruned_teacher(
    idl_here: IdlHere, tmp_path: Path
) -> None:
    done = idl_here("sim", *QUICK, "trainer.path=[1e-3,1e-1,1e-2]", "hydra.run.dir=run")
    assert done.status == 0, done.errors
    run = tmp_path / "run"
    path, summary = read_json(run / "path.json"), summary_of(run)
    assert [point["lambda_z"] for point in path["points"]] == [1e-1, 1e-2, 1e-3]
    for point in path["points"]:
        for stage in ("ab", "cd"):
            assert point[f"{stage}_status"] in ("optimal", "at_precision")
            assert point[f"{stage}_relative_gap"] <= 1e-6
    total = parameter_count(load_model(run / "teacher"))
    assert path["teacher"]["parameters"] == total
    last = path["points"][-1]
    assert path["kept_lambda_z"] == summary["sim"]["lambda_z"] == 1e-3
    assert summary["metrics"]["test_accuracy"] == last["test_accuracy"]
    weights = load_model(run).state_dict().values()
    assert sum(int((w != 0).sum()) for w in weights) == last["nonzeros"]
    assert last["zeros"] == pytest.approx(1 - last["nonzeros"] / total)
    levels = {round(0.5 * total), round(0.1 * total)}
    assert levels < {row["nonzeros"] for row in path["pruning"] if row["method"] == PRUNED}
    assert levels == {row["nonzeros"] for row in path["pruning"] if row["method"] == FINE_TUNED}
    with (run / "path.csv").open() as lines:
        assert len(list(csv.DictReader(lines))) == 3 + len(path["pruning"])
    assert (run / "path.png").stat().st_size > 0
    assert "kept" in done.output
    assert "pruned, fine-tuned" in done.output

    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "summary.json").unlink()  # as if the run had been killed
    done = idl_here(
        "sim", *QUICK, "trainer.path=[1e-3,1e-1,1e-2]", "resume=auto", "hydra.run.dir=copy"
    )
    assert done.status == 0, done.errors
    assert "epoch" not in done.output  # the teacher is kept
    timed = ("seconds", "seconds_ab", "seconds_cd", "seconds_equilibria")
    for mine, theirs in zip(read_json(copy / "path.json")["points"], path["points"], strict=True):
        for key in mine.keys() - set(timed):
            assert mine[key] == theirs[key]


def test_the_validation_part_chooses_on_the_path(idl_here: IdlHere, tmp_path: Path) -> None:
    done = idl_here(
        "sim",
        *QUICK,
        "trainer.path={points:4,smallest:1e-3}",
        "trainer.select_lambda=validation",
        "trainer.max_nonzero_fraction=0.4",
        "trainer.prune_baseline=false",
        "hydra.run.dir=run",
    )
    assert done.status == 0, done.errors
    path = read_json(tmp_path / "run/path.json")
    assert path["pruning"] == []
    allowed = [point for point in path["points"] if point["nonzero_fraction"] <= 0.4]
    best = max(allowed, key=lambda each: (each["validation_score"], -each["nonzero_fraction"]))
    assert len(path["points"]) == 4
    assert path["kept_lambda_z"] == best["lambda_z"]


def test_certificates_choose_on_the_path(idl_here: IdlHere, tmp_path: Path) -> None:
    """The score is the share that ``idl certify`` proves, and is not the accuracy's choice."""
    quick = (*QUICK, "trainer.path=[3e-1,1e-1,1e-2,1e-4]", "trainer.prune_baseline=false")
    choice = ("trainer.select_lambda=certified", "trainer.select_epsilon=0.02")
    done = idl_here("sim", *quick, *choice, "trainer.select_samples=60", "hydra.run.dir=run")
    assert done.status == 0, done.errors
    assert "certified" in done.output
    path = read_json(tmp_path / "run/path.json")
    best = max(path["points"], key=lambda each: (each["validation_score"], -each["nonzeros"]))
    assert path["kept_lambda_z"] == best["lambda_z"]
    assert path["teacher"]["test_certified_radius_mean"] > 0
    done = idl_here("certify", "run=run", "epsilon=[0.02]", "samples=60", "hydra.run.dir=proof")
    assert done.status == 0, done.errors
    metrics = summary_of(tmp_path / "proof")["metrics"]
    assert metrics["certified_accuracy_0.02"] == best["test_certified_accuracy"]
    assert best["test_certified_radius_mean"] == pytest.approx(
        metrics["certified_radius_mean"], rel=0.1
    )
    assert any(each["test_certified_accuracy"] < each["test_accuracy"] for each in path["points"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trainer.select_epsilon=0.1"], "select_lambda=certified"),
        (["trainer.select_samples=9", "trainer.select_lambda=validation"], "no effect"),
    ],
)
def test_a_radius_without_that_choice_is_said_to_be_idle(
    idl_here: IdlHere, arguments: list[str], said: str
) -> None:
    done = idl_here("sim", *QUICK, *arguments, "trainer.dry_run=true")
    assert done.status == 0, done.errors
    assert said in done.errors + done.output


def test_a_regression_has_no_certificates_to_choose_by(idl_here: IdlHere, tmp_path: Path) -> None:
    rows = [f"{0.5 * step},{(step % 7) * 0.3}" for step in range(80)]
    (tmp_path / "series.csv").write_text("\n".join(["time,value", *rows]))
    series = ("dataset=csv", "dataset.file=series.csv", "dataset.target=value")
    done = idl_here("sim", *series, "trainer.select_lambda=certified", "hydra.run.dir=run")
    assert done.status != 0
    assert "has no classes to keep" in done.errors


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("0", "[1, 10000]"),
        ("[]", "at least one"),
        ("[1e-2,1e-2]", "twice"),
        ("{point:3}", "points"),
    ],
)
def test_wrong_paths_start_nothing(
    idl_here: IdlHere, tmp_path: Path, value: str, said: str
) -> None:
    done = idl_here("sim", f"trainer.path={value}", "hydra.run.dir=run")
    assert done.status == 2
    assert said in done.errors
    assert not (tmp_path / "run").exists()


def test_fine_tuning_keeps_the_zeros_and_the_teacher() -> None:
    torch.manual_seed(0)
    data = digits(train_samples=200, test_samples=50)
    model = MLP(data.task.input_shape, data.task.output_dim, hidden_dims=(8,))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen: list[MLP] = []

    def score(network: torch.nn.Module) -> dict[str, float]:
        assert isinstance(network, MLP)
        seen.append(network)
        return {}

    count = parameter_count(model) // 4
    compute = Compute(device=torch.device("cpu"), dtype=torch.float32)
    tuning = FineTuning(epochs=2, batch_size=50, lr=1e-2, seed=0)
    rows = fine_tuned_rows(
        Teacher(model, data, "", 0.0), [count], score, tuning, compute, lambda: None
    )
    (tuned,) = seen
    assert rows[0]["nonzeros"] == count_nonzeros(tuned) == count
    magnitude = torch.cat([p.abs().flatten() for p in model.parameters() if p.ndim >= 2])
    kept = torch.cat([(p != 0).flatten() for p in tuned.parameters() if p.ndim >= 2])
    assert magnitude[kept].min() >= magnitude[~kept].max()
    weight = tuned.state_dict()["layers.1.weight"]
    moved = (weight != before["layers.1.weight"]) & (weight != 0)
    assert moved.any()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_every_baseline_has_the_same_size_and_says_whether_it_used_labels(
    idl_here: IdlHere, tmp_path: Path
) -> None:
    done = idl_here(
        "sim",
        *QUICK,
        "trainer.prune_zeros=[0.9]",
        "trainer.path=[1e-2]",
        "trainer.baselines=[magnitude,gradual,wanda,sparsegpt,alps]",
        "hydra.run.dir=run",
    )
    assert done.status == 0, done.errors
    path = read_json(tmp_path / "run/path.json")
    size = round(0.1 * path["teacher"]["parameters"])
    rows = {row["method"]: row for row in path["pruning"] if row["nonzeros"] == size}
    plain = {"pruned", "Wanda", "SparseGPT", "ALPS"}
    assert {name for name, row in rows.items() if not row["labels"]} == plain
    tuned = {f"{name}, fine-tuned" for name in plain} | {"gradually pruned"}
    assert {name for name, row in rows.items() if row["labels"]} == tuned
    assert path["teacher"]["labels"]
    assert not path["points"][0]["labels"]
    assert "labels used" in done.output


@pytest.mark.filterwarnings("default::idl_cli.errors.IgnoredOptionWarning")
def test_a_baseline_that_cannot_prune_the_teacher_is_left_out_with_a_warning(
    idl_here: IdlHere, tmp_path: Path
) -> None:
    small = ("dataset.train_samples=200", "dataset.test_samples=50", "threads=1")
    done = idl_here("train", *small, "model.hidden_dim=6", "trainer.epochs=1", "hydra.run.dir=it")
    assert done.status == 0, done.errors
    done = idl_here(
        "sim",
        *small,
        "teacher=run",
        "teacher.run=it",
        "trainer.path=[1e-2]",
        "trainer.baselines=[wanda,gradual]",
        "trainer.prune_zeros=[0.9]",
        "trainer.prune_epochs=1",
        "hydra.run.dir=run",
    )
    assert done.status == 0, done.errors
    assert "wanda is left out" in " ".join(done.errors.split())
    rows = read_json(tmp_path / "run/path.json")["pruning"]
    assert [row["method"] for row in rows] == ["gradually pruned"]
