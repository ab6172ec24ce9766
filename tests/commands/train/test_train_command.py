import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from idl_cli import load_model, registry
from idl_cli.assembly import objects as build
from idl_cli.data.dataset import Dataset
from idl_cli.data.loader import BatchLoader
from idl_cli.distributed.group import Group
from idl_cli.errors import ConfigError, RunError
from idl_cli.evaluation import evaluate as measure
from idl_cli.models.implicit import ImplicitModel
from idl_cli.run import RunDirectory, load_run, read_metrics, read_summary, run_status
from idl_cli.run.state import read_state, write_state
from tests.commands.helpers import Spoken, train, train_settings
from tests.conftest import IdlHere
from tests.training.helpers import without_seconds


def test_a_run_leaves_what_is_promised(tmp_path: Path) -> None:
    result = train(tmp_path / "run")
    run = tmp_path / "run"
    assert {
        "summary.json",
        "metrics.jsonl",
        "checkpoints",
        "model.safetensors",
        "model.json",
        "environment.json",
        "learning_curves.png",
        "iterations.png",
    } <= {entry.name for entry in run.iterdir()}
    assert {entry.name for entry in (run / "checkpoints").iterdir()} == {
        f"{which}.{suffix}" for which in ("last", "best") for suffix in ("safetensors", "json")
    }
    assert run_status(run) == "completed"
    summary = read_summary(run)
    assert {"command", "status", "seed", "seconds", "metrics"} <= summary.keys()
    metrics: Any = summary["metrics"]
    assert {"test_accuracy", "test_loss", "train_accuracy", "validation_accuracy"} <= metrics.keys()
    assert result["training"]["reason"] == "epochs"
    rows = read_metrics(run)
    assert [row["split"] for row in rows] == ["train", "validation"] * 4 + ["test"]
    assert json.loads((run / "environment.json").read_text())["threads"] == 1


def test_metrics_are_those_of_the_model_that_is_kept(tmp_path: Path) -> None:
    result = train(tmp_path, trainer={"epochs": 8}, optimizer={"lr": 0.05})
    best = result["training"]["best_epoch"]
    rows = read_metrics(tmp_path)
    validation = {r["epoch"]: r for r in rows if r["split"] == "validation"}
    assert best < 8, "choose another rate: the best epoch must not be the last one"
    assert result["metrics"]["validation_accuracy"] == validation[best]["accuracy"]
    assert result["metrics"]["validation_accuracy"] == max(
        float(str(r["accuracy"])) for r in validation.values()
    )
    loaded = load_run(tmp_path)
    assert loaded.preprocessing is not None
    assert loaded.task is not None
    data: Dataset = registry.build("dataset", train_settings().dataset, seed=0)
    loader = BatchLoader(data.test, 32, preprocessing=loaded.preprocessing, shuffle=False, seed=0)
    figures = measure(loaded.model, loader, loaded.task)
    assert figures["loss"] == result["metrics"]["test_loss"]
    assert figures["accuracy"] == result["metrics"]["test_accuracy"]
    assert (rows[-1]["split"], rows[-1]["epoch"]) == ("test", best)
    state: Any = read_state(tmp_path / "checkpoints" / "best.safetensors")
    for name, tensor in loaded.model.state_dict().items():
        assert tensor.equal(state["trainer"]["model"][name])


def test_without_validation_the_last_model_is_kept(tmp_path: Path) -> None:
    result = train(tmp_path, dataset={"validation_fraction": 0.0})
    assert result["training"]["best_epoch"] is None
    state: Any = read_state(tmp_path / "checkpoints" / "last.safetensors")
    for name, tensor in load_model(tmp_path).state_dict().items():
        assert tensor.equal(state["trainer"]["model"][name])
    assert not any(key.startswith("validation") for key in result["metrics"])


@pytest.mark.parametrize("deterministic", [False, True])
def test_two_runs_of_one_seed_leave_the_same_bits(tmp_path: Path, deterministic: bool) -> None:
    for name in "ab":
        train(tmp_path / name, deterministic=deterministic)
    torch.use_deterministic_algorithms(False)
    a, b = tmp_path / "a", tmp_path / "b"
    assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()
    assert without_seconds(_rows(a)) == without_seconds(_rows(b))
    train(tmp_path / "c", seed=1)
    assert (tmp_path / "c" / "model.safetensors").read_bytes() != (
        a / "model.safetensors"
    ).read_bytes()


def _rows(path: Path) -> list[dict[str, object]]:
    return read_metrics(path)


# -- resume ----------------------------------------------------------------------------------------


def _same_end(first: Path, second: Path) -> None:
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    assert without_seconds(read_metrics(first)) == without_seconds(read_metrics(second))
    for which in ("last", "best"):
        one: Any = read_state(first / "checkpoints" / f"{which}.safetensors")
        other: Any = read_state(second / "checkpoints" / f"{which}.safetensors")
        assert one["metrics_rows"] == other["metrics_rows"]
        for name, tensor in one["trainer"]["model"].items():
            assert tensor.equal(other["trainer"]["model"][name])


def test_more_epochs_go_on_where_the_run_ended(tmp_path: Path) -> None:
    train(tmp_path / "whole", trainer={"epochs": 6})
    train(tmp_path / "parts", trainer={"epochs": 2})
    train(tmp_path / "parts", trainer={"epochs": 6}, resume="auto")
    _same_end(tmp_path / "parts", tmp_path / "whole")


def test_a_run_can_be_continued_in_another_directory(tmp_path: Path) -> None:
    train(tmp_path / "whole", trainer={"epochs": 4})
    train(tmp_path / "first", trainer={"epochs": 2})
    before = (tmp_path / "first" / "metrics.jsonl").read_bytes()
    train(tmp_path / "second", trainer={"epochs": 4}, resume=str(tmp_path / "first"))
    _same_end(tmp_path / "second", tmp_path / "whole")
    assert (tmp_path / "first" / "metrics.jsonl").read_bytes() == before


def test_auto_starts_where_there_is_nothing(tmp_path: Path) -> None:
    train(tmp_path / "plain")
    train(tmp_path / "auto", resume="auto")
    _same_end(tmp_path / "auto", tmp_path / "plain")


def test_a_finished_run_ends_the_same_once_more(tmp_path: Path) -> None:
    first = train(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    again = train(tmp_path, resume="auto")
    assert again["metrics"] == first["metrics"]
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert len(read_metrics(tmp_path)) == 9


def test_other_settings_are_refused_all_at_once(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(ConfigError) as refused:
        train(tmp_path, resume="auto", optimizer={"lr": 0.1}, model={"hidden_dim": 13})
    message = str(refused.value)
    assert "optimizer.lr=0.1: the run to resume has optimizer.lr=0.005" in message
    assert "model.hidden_dim=13" in message
    with pytest.raises(RunError, match=r"nowhere.*no such file"):
        train(tmp_path / "x", resume=str(tmp_path / "nowhere"))


def test_a_checkpoint_older_than_a_key_is_continued_with_its_default(tmp_path: Path) -> None:
    train(tmp_path / "whole", trainer={"epochs": 4})
    train(tmp_path / "old", trainer={"epochs": 2})
    file = tmp_path / "old" / "checkpoints" / "last.safetensors"
    state: Any = read_state(file)
    for group, key in (
        ("trainer", "ema"),
        ("model", "dropout"),
        ("dataset", "validation_fraction"),
    ):
        del state["settings"][group][key]
    write_state(file, state)
    train(tmp_path / "old", trainer={"epochs": 4}, resume="auto")
    assert without_seconds(read_metrics(tmp_path / "old")) == without_seconds(
        read_metrics(tmp_path / "whole")
    )
    write_state(file, state)
    with pytest.raises(
        ConfigError, match=r"trainer\.ema=0\.5: the run to resume has trainer\.ema=0"
    ):
        train(tmp_path / "old", trainer={"epochs": 4, "ema": 0.5}, resume="auto")


def test_another_length_is_warned_of_where_the_schedule_depends_on_it(tmp_path: Path) -> None:
    cosine = {"name": "cosine"}
    train(tmp_path, trainer={"epochs": 2}, scheduler=cosine)
    with pytest.warns(UserWarning, match=r"was to have 2; scheduler=cosine depends on the length"):
        train(tmp_path, trainer={"epochs": 3}, scheduler=cosine, resume="auto")
    assert [row["epoch"] for row in read_metrics(tmp_path) if row["split"] == "train"] == [1, 2, 3]


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    train(tmp_path)
    file = tmp_path / "checkpoints" / "last.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(RunError, match=r"checkpoints/last\.safetensors: damaged"):
        train(tmp_path, resume="auto")


# -- fine-tuning -----------------------------------------------------------------------------------


def test_a_runs_model_is_where_another_begins(tmp_path: Path) -> None:
    train(tmp_path / "a", model={"hidden_dim": 7, "kappa": 0.5})
    start = load_run(tmp_path / "a")
    settings = train_settings(
        model={
            "init_run": str(tmp_path / "a"),
            "hidden_dim": 99,
            "forward": {"tol": 1e-4},
        },
        dataset={"train_samples": 100},
    )
    data: Dataset = registry.build("dataset", settings.dataset, seed=3)
    model, data = build.build_model(
        settings, data, build.Compute(torch.device("cpu"), torch.float32), Group.single()
    )
    assert isinstance(model, ImplicitModel)
    assert (model.hidden_dim, model.kappa) == (7, 0.5)
    assert model.forward_settings.tol == 1e-4
    assert data.preprocessing == start.preprocessing
    for name, tensor in model.state_dict().items():
        assert tensor.equal(start.model.state_dict()[name])
    before = read_summary(tmp_path / "a")["metrics"]
    tuned = train(tmp_path / "b", model={"init_run": str(tmp_path / "a")}, optimizer={"lr": 1e-12})
    assert isinstance(before, dict)
    assert tuned["metrics"]["test_accuracy"] == before["test_accuracy"]


def test_fine_tuning_a_sparse_model_keeps_it_sparse(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ImplicitModel(64, 10, 8)
    with torch.no_grad():
        for matrix in (model.A, model.B):
            matrix[torch.rand_like(matrix) < 0.6] = 0.0
    settings = train_settings()
    data: Dataset = registry.build("dataset", settings.dataset, seed=0)
    with RunDirectory(tmp_path / "sparse", command="sim") as directory:
        directory.save_model(model, preprocessing=data.preprocessing, task=data.task)
    train(
        tmp_path / "tuned",
        model={"init_run": str(tmp_path / "sparse")},
        trainer={"keep_sparsity": True},
    )
    tuned = load_model(tmp_path / "tuned")
    assert isinstance(tuned, ImplicitModel)
    assert tuned.A[model.A == 0].eq(0).all()
    assert tuned.B[model.B == 0].eq(0).all()
    assert not tuned.B[model.B != 0].equal(model.B[model.B != 0])


def test_a_model_of_other_data_is_refused(tmp_path: Path) -> None:
    model = ImplicitModel(5, 2, 4)
    with RunDirectory(tmp_path / "other", command="train") as directory:
        directory.save_model(model, preprocessing=None, task=None)
    with pytest.raises(ConfigError, match=r"maps 5 inputs to 2 outputs; dataset=digits has 64"):
        train(tmp_path / "b", model={"init_run": str(tmp_path / "other")})


# -- the rest --------------------------------------------------------------------------------------


def test_a_dry_run_trains_nothing_and_says_what_it_would_cost(tmp_path: Path) -> None:
    told = Spoken()
    result = train(tmp_path, trainer={"dry_run": True}, reporter=told)
    assert {entry.name for entry in tmp_path.iterdir()} == {"environment.json", "summary.json"}
    assert result["dry_run"]["steps"] == 4 * 5
    assert result["dry_run"]["seconds"] > 0
    assert "MiB" in str(told.facts_told["estimate"]["memory"])
    assert "hidden_dim=12" in str(told.facts_told["run"]["model"])
    assert told.facts_told["run"]["parameter count"] == "1,694"
    train(tmp_path / "after")  # the directory of a dry run can be followed by another


def test_float64_is_float64_all_the_way(tmp_path: Path) -> None:
    train(tmp_path, dtype="float64", model={"forward": {"tol": 1e-12}, "backward": {"tol": 1e-12}})
    loaded = load_run(tmp_path)
    assert loaded.dtype == torch.float64
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float64}
    # float32 stops at about 1e-7
    assert all(float(str(row["residual_max"])) <= 1e-12 for row in read_metrics(tmp_path))


def test_bf16_with_float64_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.precision=bf16"):
        train(tmp_path, dtype="float64", trainer={"precision": "bf16"})


@pytest.mark.parametrize("scheduler", ["cosine", "step", "one_cycle"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "rmsprop", "adagrad"])
def test_every_optimizer_goes_with_every_scheduler(
    tmp_path: Path, optimizer: str, scheduler: str
) -> None:
    result = train(
        tmp_path,
        optimizer={"name": optimizer},
        scheduler={"name": scheduler, **({"every_epochs": 1} if scheduler == "step" else {})},
        trainer={"epochs": 2},
    )
    assert math.isfinite(result["metrics"]["test_loss"])


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="an optional extra"
    )
    train(tmp_path, logger={"name": "tensorboard"})
    events = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    rows = [row for row in read_metrics(tmp_path) if row["split"] == "train"]
    logged = events.Scalars("train/loss")
    assert [event.step for event in logged] == [row["step"] for row in rows]
    # TensorBoard keeps float32
    assert [event.value for event in logged] == pytest.approx([row["loss"] for row in rows], 1e-6)


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"device=cuda:99: torch sees"):
        train(tmp_path, device="cuda:99")


def test_a_regression_reports_its_own_metrics(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(240, 3)).astype(np.float32)
    targets = (inputs @ np.array([[2.0], [-1.0], [0.5]]) + 3).astype(np.float32)
    np.savez(tmp_path / "data.npz", inputs=inputs, targets=targets)
    result = train(
        tmp_path / "run",
        dataset={"name": "arrays", "file": str(tmp_path / "data.npz")},
        trainer={"epochs": 30},
        optimizer={"lr": 0.02},
    )
    metrics = result["metrics"]
    assert {"test_r2", "test_mape", "test_mse", "test_loss", "validation_r2"} <= metrics.keys()
    assert metrics["test_r2"] > 0.98  # the targets are an affine function of the inputs
    assert result["training"]["metric"] == "loss"
    assert all("r2" in row and "mse" in row for row in read_metrics(tmp_path / "run"))
    assert (tmp_path / "run" / "learning_curves.png").stat().st_size > 0


def test_a_training_that_ends_within_its_first_epoch_says_where(idl_here: IdlHere) -> None:
    done = idl_here("train", "trainer.max_time=1e-9", "hydra.run.dir=run")
    assert done.status == 0, done.errors
    assert "\nstep " in done.output
    assert "epoch 0" not in done.output
