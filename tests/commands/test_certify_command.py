"""``idl certify``: what it leaves behind, what it refuses, and that nothing contradicts it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from idl_cli import registry
from idl_cli.certificates import certification
from idl_cli.commands.certify.run import run as certify_command
from idl_cli.commands.certify.settings import CertifySettings
from idl_cli.config import check
from idl_cli.errors import IgnoredOptionWarning, RunError
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.sequence_baselines import GRU
from idl_cli.reporting import SilentReporter
from idl_cli.run import RunDirectory, load_run
from tests.commands.helpers import train
from tests.conftest import IdlHere


def certify(path: Path, **values: Any) -> dict[str, Any]:
    """Certify into a directory, with attacks of few steps."""
    asked = {"attack_steps": 5, "radius_steps": 2, "threads": 1, **values}
    checked = check.check(CertifySettings, asked, registry.schema_of)
    settings: CertifySettings = check.instantiate(CertifySettings, checked)
    with RunDirectory(path, command="certify", seed=settings.seed) as directory:
        result = certify_command(settings, directory, SilentReporter())
        sections = {key: value for key, value in result.items() if key != "metrics"}
        directory.finish("completed", result["metrics"], sections=sections)  # type: ignore[arg-type]
    return result


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the digits."""
    path = tmp_path_factory.mktemp("certify") / "run"
    train(path, optimizer={"lr": 0.02}, trainer={"epochs": 8}, dataset={"train_samples": 600})
    return path


DIGITS = {"name": "digits", "train_samples": 600, "test_samples": 60}
RADII = (0.0, 0.01, 0.03, 0.3)


@pytest.fixture(scope="module")
def certified(run: Path) -> tuple[Path, dict[str, Any]]:
    """What is proven of it."""
    path = run.parent / "certified"
    return path, certify(path, run=str(run), dataset=DIGITS, samples=50, epsilon=RADII)


def test_certified_is_below_attacked_is_below_clean(
    certified: tuple[Path, dict[str, Any]],
) -> None:
    _, result = certified
    rows = result["certify"]["epsilons"]
    assert [row["epsilon"] for row in rows] == list(RADII)
    for row in rows:
        assert row["certified_accuracy"] <= row["attacked_accuracy"] <= row["clean_accuracy"]
    assert rows[0]["certified_accuracy"] == rows[0]["clean_accuracy"]
    assert rows[1]["certified_accuracy"] > 0
    assert rows[-1]["attacked_accuracy"] < 0.1
    shares = [row["certified_accuracy"] for row in rows]
    assert shares == sorted(shares, reverse=True)
    assert result["metrics"]["certified_accuracy_0.01"] == shares[1]
    assert result["certify"]["valid_range"] == (0.0, 1.0)


def test_the_files_say_the_same(certified: tuple[Path, dict[str, Any]]) -> None:
    path, result = certified
    written = json.loads((path / "certify.json").read_text())
    assert written["epsilons"] == result["certify"]["epsilons"]
    with (path / "certificates.csv").open(newline="") as file:
        samples = list(csv.DictReader(file))
    assert len(samples) == 50
    radii = np.array([float(row["certified_radius"]) for row in samples])
    assert radii.mean() == pytest.approx(written["radius"]["mean"])
    for row in samples:
        assert float(row["norm_radius"]) <= float(row["sensitivity_radius"]) * (1 + 1e-6)
        assert float(row["sensitivity_radius"]) <= float(row["certified_radius"])
        for epsilon in RADII:
            name = f"{epsilon:g}"
            proven = row[f"certified_{name}"] == "true"
            assert proven == (row[f"decided_by_{name}"] != "")
            assert not proven or row[f"survived_{name}"] == "true"
            assert not proven or row["label"] == row["prediction"]
            assert proven <= (float(row["certified_radius"]) >= epsilon)
    assert written["radius"]["tight_over_norm"] > 2
    assert {each.name for each in path.glob("*.png")} == {"robustness.png", "sensitivity.png"}


def test_the_weights_in_the_file_prove_well_posedness(
    run: Path, certified: tuple[Path, dict[str, Any]]
) -> None:
    proof = json.loads((certified[0] / "certify.json").read_text())["well_posedness"]
    matrix = load_run(run).model.A.detach().double().abs().numpy()
    weights = np.array(proof["weights"])
    ratio = (matrix @ weights / weights).max()
    assert ratio <= proof["spectral_radius_bound"] < 1
    assert np.abs(np.linalg.eigvals(matrix)).max() <= proof["spectral_radius_bound"]


def test_predictions_are_those_of_the_model(
    run: Path, certified: tuple[Path, dict[str, Any]]
) -> None:
    with (certified[0] / "certificates.csv").open(newline="") as file:
        predictions = [int(row["prediction"]) for row in csv.DictReader(file)]
    loaded = load_run(run)
    dataset = registry.build("dataset", DIGITS, seed=0)
    assert loaded.preprocessing is not None
    with torch.no_grad():
        outputs = loaded.model(loaded.preprocessing(dataset.test.inputs[:50]))
    assert outputs.argmax(1).tolist() == predictions


@pytest.mark.parametrize("method", ["norm", "interval"])
def test_one_bound_alone_certifies_no_more(
    tmp_path: Path, run: Path, certified: tuple[Path, dict[str, Any]], method: str
) -> None:
    asked = {"run": str(run), "dataset": DIGITS, "samples": 50, "attack": "none"}
    alone = certify(tmp_path, **asked, epsilon=(0.01,), method=method)["certify"]["epsilons"][0]
    assert alone["certified_accuracy"] <= certified[1]["metrics"]["certified_accuracy_0.01"]
    assert "attacked_accuracy" not in alone
    assert set(alone["decided_by"]) == set(certification.METHODS)
    assert sum(alone["decided_by"].values()) == alone["decided_by"][method]


def test_branching_brackets_closer(tmp_path: Path, run: Path) -> None:
    asked = {"run": str(run), "dataset": DIGITS, "samples": 50, "epsilon": (0.05, 0.07)}
    bounds, complete = (
        certify(tmp_path / name, **asked, **limit, method=name, radius_steps=0)["certify"]
        for name, limit in (("auto", {}), ("complete", {"branches": 60}))
    )
    gaps = []
    for before, found in zip(bounds["epsilons"], complete["epsilons"], strict=True):
        assert before["certified_accuracy"] <= found["certified_accuracy"]
        assert found["certified_accuracy"] <= found["attacked_accuracy"]
        assert found["attacked_accuracy"] <= before["attacked_accuracy"]
        gaps += [each["attacked_accuracy"] - each["certified_accuracy"] for each in (before, found)]
    assert gaps[1] + gaps[3] < gaps[0] + gaps[2]
    with (tmp_path / "complete" / "certificates.csv").open(newline="") as file:
        samples = list(csv.DictReader(file))
    for name, row in zip(("0.05", "0.07"), complete["epsilons"], strict=True):
        tried = [each for each in samples if each[f"reached_{name}"]]
        least = [float(each[f"reached_{name}"]) for each in tried]
        lower = [float(each[f"margin_{name}"]) for each in tried]
        assert len(tried) >= row["decided_by"]["complete"] + row["falsified"]
        assert all(low <= at + 1e-9 for low, at in zip(lower, least, strict=True))
        decided = [each[f"certified_{name}"] == "true" for each in tried]
        still = sum(low <= 0 <= at for low, at in zip(lower, least, strict=True))
        assert sum(decided) + row["falsified"] + still == len(tried)
        assert (row["gap_mean"] is None) == (still == 0)


def test_l2_is_bracketed_too(tmp_path: Path, run: Path) -> None:
    asked = {"run": str(run), "dataset": DIGITS, "samples": 40, "norm": "l2", "attack": "fgsm"}
    with pytest.warns(IgnoredOptionWarning, match="beside norm=l2 it is pgd"):
        found = certify(tmp_path, **asked, epsilon=(0.05, 0.8), radius_steps=0)["certify"]
    small, large = found["epsilons"]
    assert 0 < small["certified_accuracy"] <= small["attacked_accuracy"] <= small["clean_accuracy"]
    assert large["certified_accuracy"] <= large["attacked_accuracy"] < large["clean_accuracy"]
    assert found["radius"] is None


@pytest.mark.parametrize(("key", "value"), [("branches", 5), ("branch_seconds", 1.0)])
def test_limits_of_branching_are_idle_without_it(
    tmp_path: Path, run: Path, key: str, value: float
) -> None:
    asked = {"run": str(run), "dataset": DIGITS, "samples": 2, "epsilon": (0.01,), key: value}
    with pytest.warns(IgnoredOptionWarning, match=rf"{key}={value}: has no effect .*complete"):
        certify(tmp_path, **asked, method="norm", attack="none", radius_steps=0)


def test_a_bound_that_an_attack_breaks_stops_the_command(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        certification,
        "norm",
        lambda problem: problem.without_own(torch.ones_like(problem.centre_margins)),
    )
    asked = {"run": str(run), "dataset": DIGITS, "samples": 20, "epsilon": (0.3,)}
    with pytest.raises(AssertionError, match="certified and yet broken by the attack"):
        certify(tmp_path, **asked)


def _saved(path: Path, model: torch.nn.Module, name: str = "implicit") -> Path:
    with RunDirectory(path, command="train", seed=0) as directory:
        directory.save_model(
            model,
            name=name,
            arguments=model.constructor_arguments(),  # type: ignore[operator]
            preprocessing=None,
            task=None,
        )
        directory.finish("completed", {})
    return path


def test_models_of_which_nothing_is_proven_are_refused(tmp_path: Path) -> None:
    broken = ImplicitModel(64, 10, 4)
    with torch.no_grad():
        broken.B[0, 0] = torch.nan
    with pytest.raises(RunError, match="broken: B holds NaN"):
        certify(tmp_path / "one", run=str(_saved(tmp_path / "broken", broken)), dataset=DIGITS)
    recurrent = _saved(tmp_path / "gru", GRU(8, 10), "gru")
    with pytest.raises(RunError, match="GRU is certified by no bound"):
        certify(tmp_path / "two", run=str(recurrent), dataset=DIGITS)


def test_the_command_line_and_its_mistakes(tmp_path: Path, idl_here: IdlHere) -> None:
    made = idl_here(
        "train",
        "model=mlp",
        "model.hidden_dims=[16]",
        "dataset.train_samples=400",
        "dataset.test_samples=40",
        "trainer.epochs=3",
        "threads=1",
        "report=false",
        "hydra.run.dir=run",
    )
    assert made.status == 0, made.errors
    words = ("certify", "run=run", "epsilon=[0.005,0.02]", "samples=60", "threads=1")
    done = idl_here(*words, "attack_steps=5", "radius_steps=1", "hydra.run.dir=out")
    assert done.status == 0, done.errors
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["certify"]["samples"] == 40
    assert summary["certify"]["well_posedness"]["proof"] == "triangular"
    assert summary["metrics"]["certified_accuracy_0.005"] > 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Certified robustness in l∞, 40 test samples" in page
    table = idl_here("compare", "out")
    assert "certified_accuracy_0.02" in table.output
    for word, said in (
        ("epsilon=[-1]", ">= 0"),
        ("epsilon=[nan]", "finite"),
        ("epsilon=[]", "at least one radius"),
        ("epsilon=[0.1,0.1]", "twice"),
        ("method=crown", "relaxation"),
        ("samples=0", ">= 1"),
        ("model=implicit", "takes the model from run=DIR"),
    ):
        refused = idl_here("certify", "run=run", word)
        assert refused.status == 2, word
        assert said in refused.errors, refused.errors
