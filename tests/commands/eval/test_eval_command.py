import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from idl_cli.errors import ConfigError, RunError
from idl_cli.run import read_metrics
from tests.commands.helpers import evaluate, train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run with the configuration that Hydra would have left beside it."""
    path = tmp_path_factory.mktemp("eval") / "run"
    result = train(path, optimizer={"lr": 0.05}, trainer={"epochs": 5, "batch_size": 24})
    (path / ".hydra").mkdir()
    (path / ".hydra" / "config.yaml").write_text(
        "model: {name: implicit, hidden_dim: 12}\n"
        "dataset: {name: digits, train_samples: 150, test_samples: 60}\n"
        "trainer: {name: gradient, epochs: 5, batch_size: 24}\n"
        "optimizer: {name: adam, lr: 0.05}\n"
        "scheduler: {name: constant}\n"
        "logger: {name: jsonl}\n"
        "seed: 0\n"
    )
    return path, result


def test_the_runs_metrics_come_out_again_to_the_bit(
    tmp_path: Path, trained: tuple[Path, dict[str, Any]]
) -> None:
    path, result = trained
    again = evaluate(tmp_path / "eval", run=str(path))
    assert again["metrics"] == result["metrics"]
    assert again["eval"]["batch_size"] == 24
    assert [row["split"] for row in read_metrics(tmp_path / "eval")] == [
        "train",
        "validation",
        "test",
    ]
    environment = json.loads((tmp_path / "eval" / "environment.json").read_text())
    assert environment["threads"] == 1


def test_a_moved_run_is_evaluated_where_it_is(
    tmp_path: Path, trained: tuple[Path, dict[str, Any]]
) -> None:
    path, result = trained
    shutil.copytree(path, tmp_path / "elsewhere")
    again = evaluate(tmp_path / "eval", run=str(tmp_path / "elsewhere"))
    assert again["metrics"] == result["metrics"]


def test_checkpoints_can_be_chosen(tmp_path: Path, trained: tuple[Path, dict[str, Any]]) -> None:
    path, result = trained
    best = evaluate(tmp_path / "best", run=str(path), checkpoint="best")
    assert best["metrics"] == result["metrics"]
    last = evaluate(tmp_path / "last", run=str(path), checkpoint="last")
    final = [row for row in read_metrics(path) if row["split"] == "validation"][-1]
    assert last["metrics"]["validation_loss"] == final["loss"]


def test_another_data_set_is_measured_on_its_test_part(
    tmp_path: Path, trained: tuple[Path, dict[str, Any]]
) -> None:
    path, _ = trained
    other = evaluate(tmp_path / "all", run=str(path), dataset={"name": "digits"})
    assert {key.split("_")[0] for key in other["metrics"]} == {"test"}
    share = other["metrics"]["test_accuracy"] * 359
    assert share == pytest.approx(round(share)), "all 359 test samples, not the run's 60"


def test_the_batch_size_changes_nothing_but_rounding(
    tmp_path: Path, trained: tuple[Path, dict[str, Any]]
) -> None:
    path, result = trained
    other = evaluate(tmp_path / "eval", run=str(path), batch_size=7)
    # float32 equilibria, each stopped at 1e-5 by itself
    assert other["metrics"]["test_loss"] == pytest.approx(result["metrics"]["test_loss"], rel=1e-5)


def test_what_cannot_be_evaluated_is_named(
    tmp_path: Path, trained: tuple[Path, dict[str, Any]]
) -> None:
    path, _ = trained
    with pytest.raises(RunError, match="nowhere: no such run directory"):
        evaluate(tmp_path / "a", run=str(tmp_path / "nowhere"))
    shutil.copytree(path, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / ".hydra")
    with pytest.raises(ConfigError, match="give dataset=OPTION"):
        evaluate(tmp_path / "b", run=str(tmp_path / "copy"))
    (tmp_path / "copy" / "checkpoints" / "best.safetensors").unlink()
    with pytest.raises(RunError, match=r"best\.safetensors: no such file"):
        evaluate(tmp_path / "c", run=str(tmp_path / "copy"), checkpoint="best")


def test_a_data_set_of_another_shape_is_refused(
    tmp_path: Path, trained: tuple[Path, dict[str, Any]]
) -> None:
    import numpy as np

    path, _ = trained
    file = tmp_path / "data.npz"
    inputs, labels = np.zeros((20, 5), dtype=np.float32), np.arange(20) % 2
    np.savez(file, inputs=inputs, targets=labels)
    with pytest.raises(ConfigError, match=r"the model of .* was trained for classification of"):
        evaluate(tmp_path / "a", run=str(path), dataset={"name": "arrays", "file": str(file)})
