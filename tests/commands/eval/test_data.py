"""Which samples ``idl eval`` measures on: other files, other orders of classes, other units."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from idl_cli.errors import ConfigError, DataError
from tests.commands.helpers import evaluate, train

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(300, 6)).astype(np.float32)
LABELS = np.digitize(POINTS[:, 0], [-0.5, 0.5])
NAMES = np.array(["cat", "dog", "owl"])
PARITY = np.arange(300) % 2
BYTES = RNG.integers(0, 128, (300, 1, 8, 8)) + 100 * PARITY[:, None, None, None]


def save(path: Path, inputs: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    np.savez(path, inputs=inputs, targets=targets)
    return {"name": "arrays", "file": str(path)}


def run_on(path: Path, dataset: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A run with the configuration that Hydra would have left beside it."""
    chosen = {
        "model": {"name": "implicit", "hidden_dim": 8},
        "dataset": dataset,
        "trainer": {"name": "gradient", "epochs": 8, "batch_size": 32},
        "optimizer": {"name": "adam", "lr": 0.02},
        "scheduler": {"name": "constant"},
        "logger": {"name": "jsonl"},
        **changes,
    }
    result = train(path, **chosen)
    (path / ".hydra").mkdir()
    (path / ".hydra" / "config.yaml").write_text(yaml.safe_dump({**chosen, "seed": 0}))
    return result


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("named")
    run_on(path / "run", save(path / "a.npz", POINTS, NAMES[LABELS]))
    return path / "run"


def accuracy(tmp_path: Path, run: Path, dataset: dict[str, Any]) -> float:
    found = evaluate(tmp_path / "eval", run=str(run), dataset=dataset)
    return float(found["metrics"]["test_accuracy"])


def test_all_of_a_new_file_is_measured_and_counted(tmp_path: Path, named: Path) -> None:
    other = save(tmp_path / "b.npz", POINTS, NAMES[LABELS])
    found = evaluate(tmp_path / "eval", run=str(named), dataset=other)
    assert found["eval"]["samples"] == {"test": 300}
    right = found["metrics"]["test_accuracy"] * 300
    assert right == pytest.approx(round(right))
    assert right > 240
    own = evaluate(tmp_path / "own", run=str(named))
    assert own["eval"]["samples"] == {"train": 216, "validation": 24, "test": 60}


@pytest.mark.parametrize("kept", [[2, 0], [1], [0, 1, 2]])
def test_classes_are_found_by_name(tmp_path: Path, named: Path, kept: list[int]) -> None:
    chosen = np.isin(LABELS, kept)
    subset = save(tmp_path / "b.npz", POINTS[chosen], NAMES[LABELS[chosen]])
    found = evaluate(tmp_path / "eval", run=str(named), dataset=subset)
    assert found["eval"]["samples"] == {"test": int(chosen.sum())}
    # The same samples as numbers: the model's classes by position, said in a warning.
    numbers = save(tmp_path / "c.npz", POINTS[chosen], LABELS[chosen])
    with pytest.warns(UserWarning, match="positions among the model's classes"):
        by_number = accuracy(tmp_path / "n", named, numbers)
    assert found["metrics"]["test_accuracy"] == by_number


def test_a_class_that_the_model_does_not_have_is_refused(tmp_path: Path, named: Path) -> None:
    other = save(tmp_path / "b.npz", POINTS, np.array(["wolf", "dog", "cat"])[LABELS])
    with pytest.raises(DataError, match=r"b\.npz\[targets\]: 'wolf' .* cat, dog, owl"):
        accuracy(tmp_path, named, other)
    with pytest.raises(DataError, match="label 5 of sample 1 is no class"):
        accuracy(tmp_path / "2", named, save(tmp_path / "c.npz", POINTS, LABELS + 3))


@pytest.mark.parametrize("stored", ["bytes", "unit"])
def test_pixels_and_images_in_the_unit_interval_are_the_same(tmp_path: Path, stored: str) -> None:
    classes = PARITY
    forms = {"bytes": BYTES.astype(np.uint8), "unit": (BYTES / 255).astype(np.float32)}
    own = save(tmp_path / "own.npz", forms[stored], classes)
    run_on(tmp_path / "run", own)
    found = [
        evaluate(
            tmp_path / name,
            run=str(tmp_path / "run"),
            dataset=save(tmp_path / f"{name}.npz", images, classes),
        )
        for name, images in (*forms.items(), ("whole", BYTES.astype(np.float64)))
        if (stored, name) != ("unit", "whole")
    ]
    losses = [each["metrics"]["test_loss"] for each in found]
    # Inputs in float32, of bytes divided by 255 there or before; equilibria to 1e-5.
    assert losses == pytest.approx([losses[0]] * len(losses), abs=1e-4)
    if stored == "bytes":
        for wrong in (BYTES - 100.0, BYTES * 10.0, (BYTES > 150) * 1.0):
            with pytest.raises(ConfigError, match="trained on 8-bit numbers 0 to 255"):
                accuracy(tmp_path / "w", tmp_path / "run", save(tmp_path / "w.npz", wrong, classes))


def test_samples_in_another_unit_are_a_warning(tmp_path: Path, named: Path) -> None:
    for factor in (1000.0, 1e-3):
        other = save(tmp_path / "b.npz", POINTS * factor, NAMES[LABELS])
        with pytest.warns(UserWarning, match="are they in the unit"):
            accuracy(tmp_path / str(factor), named, other)


def test_changed_data_are_refused_unless_they_are_chosen_again(tmp_path: Path) -> None:
    own = save(tmp_path / "d.npz", POINTS, NAMES[LABELS])
    result = run_on(tmp_path / "run", own)
    assert evaluate(tmp_path / "e1", run=str(tmp_path / "run"))["metrics"] == result["metrics"]
    explicit = evaluate(tmp_path / "e2", run=str(tmp_path / "run"), dataset=own)
    assert explicit["metrics"]["test_loss"] == result["metrics"]["test_loss"]
    changed = POINTS.copy()
    changed[17, 2] += 1e-3
    save(tmp_path / "d.npz", changed, NAMES[LABELS])
    with pytest.raises(ConfigError, match=r"holds other samples or values .*data\.json"):
        evaluate(tmp_path / "e3", run=str(tmp_path / "run"))
    with pytest.warns(UserWarning, match="the data have changed"):
        chosen = evaluate(tmp_path / "e4", run=str(tmp_path / "run"), dataset=own)
    assert chosen["eval"]["samples"] == {"test": 300}
    with pytest.raises(ConfigError, match=r"resume=.*holds other samples or values"):
        train(
            tmp_path / "run",
            resume="auto",
            model={"name": "implicit", "hidden_dim": 8},
            dataset=own,
            trainer={"name": "gradient", "epochs": 9, "batch_size": 32},
            optimizer={"name": "adam", "lr": 0.02},
            scheduler={"name": "constant"},
            logger={"name": "jsonl"},
        )


def test_targets_of_the_size_of_prices_are_learnt(
    tmp_path: Path,
) -> None:
    weights = RNG.normal(size=6)
    unit = POINTS @ weights / np.linalg.norm(weights)
    scores = {}
    for name, targets in (("unit", unit), ("price", 200_000 + 50_000 * unit)):
        own = save(tmp_path / f"{name}.npz", POINTS, targets)
        result = run_on(
            tmp_path / name, own, trainer={"name": "gradient", "epochs": 30, "batch_size": 32}
        )
        scores[name] = result["metrics"]
        again = evaluate(tmp_path / f"{name} again", run=str(tmp_path / name))
        assert again["metrics"] == result["metrics"]
    assert scores["price"]["test_r2"] > 0.9
    # Standardised they are the same targets but for rounding, which training carries on.
    assert scores["price"]["test_r2"] == pytest.approx(scores["unit"]["test_r2"], abs=0.01)
    assert scores["price"]["test_mse"] == pytest.approx(
        50_000**2 * scores["unit"]["test_mse"], rel=0.2
    )
    two = save(tmp_path / "two.npz", POINTS, np.stack([unit, unit], axis=1))
    with pytest.raises(DataError, match="2 targets a sample, but the model has 1 outputs"):
        evaluate(tmp_path / "e", run=str(tmp_path / "price"), dataset=two)
    short = save(tmp_path / "short.npz", POINTS[:, :5], unit)
    with pytest.raises(ConfigError, match="regression of 5 samples with 1 outputs"):
        evaluate(tmp_path / "e", run=str(tmp_path / "price"), dataset=short)


def test_a_run_of_unscaled_targets_is_evaluated_as_before(tmp_path: Path) -> None:
    own = save(tmp_path / "a.npz", POINTS, POINTS[:, 0] * 2.0 + 1)
    result = run_on(tmp_path / "run", {**own, "normalize": "none"})
    model = json.loads((tmp_path / "run" / "model.json").read_text())
    assert model["task"]["target_scaling"] is None
    # The data are scaled by default now; the model says that its outputs are not.
    scaled = {**own, "normalize": "feature"}
    found = evaluate(tmp_path / "eval", run=str(tmp_path / "run"), dataset=scaled)
    for name in ("test_mse", "test_r2", "test_mae", "test_loss"):
        assert found["metrics"][name] == pytest.approx(result["metrics"][name], rel=1e-12)


def test_all_windows_of_a_new_table_are_measured(tmp_path: Path) -> None:
    values = 100 + 5 * np.sin(np.arange(400) / 9) + RNG.normal(size=400)
    for name, rows in (("own", values[:300]), ("new", values[300:])):
        lines = [f"{value},{2 * value}" for value in rows.tolist()]
        (tmp_path / f"{name}.csv").write_text("\n".join(["price,twice", *lines]))
    own = {"name": "csv", "file": str(tmp_path / "own.csv"), "target": "price", "look_back": 6}
    run_on(tmp_path / "run", own, model={"name": "implicit", "hidden_dim": 8})
    # Fewer rows than the run's: its window is the model's, whatever a tenth of them is.
    new = {"name": "csv", "file": str(tmp_path / "new.csv"), "target": "price"}
    found = evaluate(tmp_path / "eval", run=str(tmp_path / "run"), dataset=new)
    assert found["eval"]["samples"] == {"test": 94}
    assert found["metrics"]["test_r2"] > 0
    with pytest.warns(UserWarning, match=r"(twice are read as price|in the unit)"):
        evaluate(tmp_path / "twice", run=str(tmp_path / "run"), dataset={**new, "target": "twice"})
