"""``idl predict``: the run's own predictions, on files of every form, in files of every form."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from idl_cli import registry
from idl_cli.commands.predict import run as command
from idl_cli.commands.predict.settings import PredictSettings
from idl_cli.config import check
from idl_cli.data.preprocessing import Preprocessing
from idl_cli.data.scaling import TargetScaling
from idl_cli.data.series.differences import Differences
from idl_cli.data.series.forecast import Forecast
from idl_cli.data.task import Task
from idl_cli.errors import ConfigError, DataError, RunError
from idl_cli.models.rnn import ImplicitRNN
from idl_cli.reporting import SilentReporter
from idl_cli.run import RunDirectory, fitted_to, load_run
from tests.conftest import IdlHere
from tests.export.makers import PICTURES, PIXELS, implicit, make_run

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 1, 4, 4), dtype=np.uint8)


class Told(SilentReporter):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        """Keep it."""
        self.warnings.append(text)


def predict(folder: Path, **values: Any) -> tuple[dict[str, Any], list[str]]:
    """The command without a process: its result and its warnings."""
    paths = {key: str(folder / values[key]) for key in ("input", "output")}
    values = {"run": str(folder / "run"), "device": "cpu", "threads": 1, **values, **paths}
    checked = check.check(PredictSettings, values, registry.schema_of)
    settings: PredictSettings = check.instantiate(PredictSettings, checked)
    told = Told()
    made = folder / "made"
    shutil.rmtree(made, ignore_errors=True)
    with RunDirectory(made, command="predict", seed=0) as directory:
        return command.run(settings, directory, told), told.warnings


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    make_run(tmp_path / "run", implicit(16, 3), PICTURES, PIXELS)
    np.save(tmp_path / "x.npy", IMAGES)
    return tmp_path


def expected_probabilities() -> np.ndarray:
    with torch.no_grad():
        logits = implicit(16, 3)(PIXELS(torch.from_numpy(IMAGES)))
    return logits.double().softmax(dim=1).numpy()


def test_classes_by_name_and_probabilities_in_every_form(pictures: Path) -> None:
    expected = expected_probabilities()
    names = [PICTURES.class_names[i] for i in expected.argmax(axis=1)]  # type: ignore[index]
    for suffix in ("csv", "jsonl", "npy", "npz", "parquet"):
        predict(pictures, input="x.npy", output=f"p.{suffix}", probabilities=True, batch_size=3)
    with (pictures / "p.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == names
    assert [row["row"] for row in rows] == [str(index) for index in range(7)]
    columns = [f"probability_{name}" for name in PICTURES.class_names or ()]
    found = [[float(row[name]) for name in columns] for row in rows]
    # The batches differ from one of seven, and with them the order of float32 sums.
    np.testing.assert_allclose(found, expected, atol=1e-6)
    lines = [json.loads(line) for line in (pictures / "p.jsonl").read_text().splitlines()]
    assert [line["class"] for line in lines] == names
    assert [[line[name] for name in columns] for line in lines] == found
    assert np.load(pictures / "p.npy").tolist() == found
    with np.load(pictures / "p.npz") as arrays:
        assert arrays["class_names"][arrays["class"]].tolist() == names
        assert arrays["probabilities"].tolist() == found
        assert not len(arrays["bad_rows"])
    table = pytest.importorskip("pyarrow.parquet").read_table(pictures / "p.parquet")
    assert table.column("class").to_pylist() == names
    assert not list(pictures.glob(".*.idl-tmp"))


def test_rows_that_cannot_be_used_keep_their_place(pictures: Path) -> None:
    (pictures / "in").mkdir()
    for index, image in enumerate(IMAGES):
        Image.fromarray(image[0]).save(pictures / "in" / f"{index}.png")
    (pictures / "in" / "3.png").write_bytes(b"damaged")
    for suffix in ("csv", "npy", "npz"):
        result, (said,) = predict(pictures, input="in", output=f"p.{suffix}")
        assert "1 of 7 rows have no prediction (3.png: not an intact image" in said
        assert result["metrics"] == {"rows": 7, "bad_rows": 1}
    rows = list(csv.reader((pictures / "p.csv").read_text(encoding="utf-8").splitlines()))
    assert [row[0] for row in rows[1:]] == [f"{index}.png" for index in range(7)]
    assert rows[4][:2] == ["3.png", ""]
    assert "not an intact image" in rows[4][2]
    classes = expected_probabilities().argmax(axis=1)
    classes[3] = -1
    assert np.load(pictures / "p.npy").tolist() == classes.tolist()
    with np.load(pictures / "p.npz") as arrays:
        assert arrays["bad_rows"].tolist() == [3]


def test_standard_output_holds_the_table_alone(pictures: Path, idl_here: IdlHere) -> None:
    done = idl_here("predict", "run=run", "input=x.npy", "hydra.run.dir=made")
    lines = done.output.splitlines()
    assert lines[0] == "row,class,problem"
    assert len(lines) == 8
    assert json.loads((pictures / "made" / "summary.json").read_text())["metrics"]["rows"] == 7


def test_other_units_are_converted_or_refused(pictures: Path) -> None:
    """8-bit pixels, the same as numbers up to 255 and up to 1: one answer; counts: none."""
    for name, values in (("bytes", IMAGES), ("whole", IMAGES * 1.0), ("unit", IMAGES / 255)):
        np.save(pictures / f"{name}.npy", values)
        predict(pictures, input=f"{name}.npy", output=f"{name}.csv")
    first = (pictures / "bytes.csv").read_text()
    assert first == (pictures / "whole.csv").read_text() == (pictures / "unit.csv").read_text()
    np.save(pictures / "wide.npy", IMAGES * 7.5)
    with pytest.raises(ConfigError, match=r"wide.npy: holds numbers from"):
        predict(pictures, input="wide.npy", output="p.csv")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("input=x.npy", "output=p.xlsx"), "output=p.xlsx: the form is told by the suffix"),
        (("input=x.npy", "output=no/p.csv"), "no is no folder"),
        (("input=x.npy", "output=x.npy"), "it would be overwritten"),
        (("input=gone.npy",), "input=gone.npy: no such file"),
        ((), "input: missing"),
    ],
)
def test_mistakes_are_sentences(
    pictures: Path, idl_here: IdlHere, words: tuple[str, ...], sentence: str
) -> None:
    done = idl_here("predict", "run=run", *words)
    assert done.status == 2
    assert sentence in done.errors
    assert "Traceback" not in done.errors
    assert not (pictures / "p.csv").exists()


def test_a_file_that_breaks_off_leaves_the_old_predictions(pictures: Path) -> None:
    (pictures / "p.csv").write_text("old")
    content = (pictures / "x.npy").read_bytes()
    (pictures / "x.npy").write_bytes(content[:-3])
    with pytest.raises(DataError, match="ends after 6 of 7 rows"):
        predict(pictures, input="x.npy", output="p.csv", batch_size=2)
    assert (pictures / "p.csv").read_text() == "old"
    assert not list(pictures.glob(".*.idl-tmp"))


def test_a_regression_is_in_its_own_unit(tmp_path: Path) -> None:
    scaling = TargetScaling((1000.0, -2.0), (50.0, 0.5))
    task = Task("regression", (3,), 2, target_scaling=scaling)
    preprocessing = Preprocessing("feature", (3,), 1.0, (3,), (1.0, 2.0, 3.0), (2.0, 2.0, 2.0))
    run = make_run(tmp_path / "run", implicit(3, 2), task, preprocessing)
    (tmp_path / "x.csv").write_text("a,b,c\n1,2,3\n0,1,2\n")
    predict(tmp_path, input="x.csv", output="p.npy")
    with torch.no_grad():
        inputs = preprocessing(torch.tensor([[1.0, 2, 3], [0, 1, 2]], dtype=torch.float64))
        expected = scaling.unscale(run.model(inputs)).numpy()
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), expected)


def test_forecasts_of_a_series(tmp_path: Path) -> None:
    """The last row of the table has a forecast, too: that of what nobody knows yet."""
    forecast = Forecast("y", 0, 2, Differences((1.0,), (0.0, 0.0), (1.0, 1.0)))
    task = Task("regression", (3, 1), 2, sequence=True, forecast=forecast)
    torch.manual_seed(0)
    own = {"name": "csv", "target": "y", "columns": [], "dates": "auto", "date_format": None}
    own |= {"missing": "auto", "delimiter": "auto", "decimal": "point", "thousands": None}
    model = fitted_to(ImplicitRNN(1, 2, 4, 3), task)
    make_run(tmp_path / "run", model, task, Preprocessing("none", (3, 1)), name="rnn", dataset=own)
    values = [3.0, 1.0, 4.0, 1.0, 5.0]
    rows = [f"2020-01-{day + 1:02},{value}" for day, value in enumerate(values)]
    (tmp_path / "x.csv").write_text("\n".join(["date,y", *rows]))
    predict(tmp_path, input="x.csv", output="p.csv")
    table = list(csv.DictReader((tmp_path / "p.csv").read_text().splitlines()))
    assert [row["row"] for row in table] == ["2020-01-03", "2020-01-04", "2020-01-05"]
    windows = torch.tensor(values).unfold(0, 3, 1)[:, :, None]
    with torch.no_grad():
        expected = load_run(tmp_path / "run").model(windows)
    found = torch.tensor([[float(row["y+1"]), float(row["y+2"])] for row in table])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)  # rounded sums of a batch


def test_a_run_that_does_not_say_what_it_predicts(tmp_path: Path) -> None:
    make_run(tmp_path / "run", implicit(3, 2), None, None)
    (tmp_path / "x.csv").write_text("1,2,3\n")
    with pytest.raises(RunError, match="does not say what its model predicts"):
        predict(tmp_path, input="x.csv", output="p.csv")
