from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from idl_cli.data.series.csv_series import csv
from idl_cli.data.series.missing import Rule
from idl_cli.errors import ConfigError, DataError

ROWS = 200
TEMP = 15 + 8 * np.sin(np.arange(ROWS) / 9)


def _write(folder: Path, rows: Sequence[Sequence[object]], header: str = "day,temp,wind") -> str:
    file = folder / "my.csv"
    file.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return str(file)


def _rows() -> list[list[object]]:
    start = date(2020, 1, 1)
    return [[start + timedelta(days=i), TEMP[i], i % 7] for i in range(ROWS)]


def test_windows_parts_and_times(tmp_path: Path) -> None:
    dataset = csv(
        file=_write(tmp_path, _rows()), target="temp", columns=("wind",), look_back=5, horizon=2
    )
    # Of 200 rows the last 40 are tested on, of the 160 before the last 16 validated with.
    assert dataset.validation is not None
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [138, 15, 39]
    assert dataset.test.inputs[0].tolist() == [[TEMP[i], i % 7] for i in range(155, 160)]
    scaling = dataset.task.target_scaling
    assert scaling is not None
    np.testing.assert_allclose(scaling.unscale(dataset.test.targets)[0], TEMP[160:162])
    assert dataset.times is not None
    assert dataset.times.test[0] == np.datetime64("2020-06-09")
    assert dataset.times.label == "day"


def test_scaling_sees_the_training_rows_alone(tmp_path: Path) -> None:
    rows = _rows()
    before = csv(file=_write(tmp_path, rows), target="temp")
    for row in rows[144:]:
        row[1] = 1e6
    after = csv(file=_write(tmp_path, rows), target="temp")
    assert after.preprocessing == before.preprocessing
    assert after.task.target_scaling == before.task.target_scaling
    assert torch.equal(after.train.targets, before.train.targets)
    assert before.preprocessing.mean == pytest.approx((TEMP[:144].mean(),), rel=1e-12)
    assert before.preprocessing.std == pytest.approx((TEMP[:144].std(),), rel=1e-12)


def test_what_was_assumed_is_said(tmp_path: Path) -> None:
    said = "\n".join(csv(file=_write(tmp_path, _rows()), target="temp").assumptions)
    assert "dates are in column 'day' (by its name), 1 days a row" in said
    assert "inputs are the past of temp; wind unused" in said
    assert "a window of 20 rows (a tenth of 200, at most 60; dataset.look_back=N" in said
    assert "forecasts the next row (dataset.horizon=1)" in said
    assert "train lines 2-145, validation lines 146-161, test lines 162-201" in said


def test_without_dates_samples_are_numbered_by_line(tmp_path: Path) -> None:
    dataset = csv(file=_write(tmp_path, [[value] for value in TEMP], header="temp"), target="temp")
    assert "no column of dates was found" in dataset.assumptions[0]
    assert dataset.times is not None
    assert dataset.times.test[0] == 162
    assert dataset.times.label == "line of my.csv"


def test_stride(tmp_path: Path) -> None:
    dataset = csv(file=_write(tmp_path, _rows()), target="temp", look_back=4, stride=10)
    assert len(dataset.test) == 4
    assert dataset.test.inputs[1, 0, 0] == TEMP[166]


@pytest.mark.parametrize(
    ("rule", "kept"), [("drop", 40 - 6), ("forward_fill", 39), ("interpolate", 38)]
)
def test_missing_values_by_rule(tmp_path: Path, rule: str, kept: int) -> None:
    rows = _rows()
    rows[180][1] = ""
    file = _write(tmp_path, rows)
    with pytest.raises(
        DataError, match=r"line 182, column 'temp': no value; choose dataset.missing"
    ):
        csv(file=file, target="temp", look_back=5, missing="error")
    dataset = csv(file=file, target="temp", look_back=5, missing=rule)  # type: ignore[arg-type]
    # The row itself is no target; with drop no window may hold it either.
    assert len(dataset.test) == kept
    for part in (dataset.train, dataset.test):
        assert torch.isfinite(part.inputs).all()
        assert torch.isfinite(part.targets).all()
    assert any(
        f"line 182, column 'temp': no value: {rule}" in sentence for sentence in dataset.assumptions
    )


def test_few_empty_cells_are_bridged_and_told_many_refused(tmp_path: Path) -> None:
    rows = _rows()
    for line in range(60, 70):
        rows[line][1] = ""
    said = "\n".join(csv(file=_write(tmp_path, rows), target="temp").assumptions)
    assert "line 62, column 'temp': no value (10 such cells in all): interpolate" in said
    rows[80][1] = ""
    with pytest.raises(DataError, match=r"line 62, column 'temp': no value .11 such cells in all"):
        csv(file=_write(tmp_path, rows), target="temp")


def test_a_constant_column_is_named(tmp_path: Path) -> None:
    rows = _rows()
    for row in rows[:144]:
        row[2] = 3
    file = _write(tmp_path, rows)
    with pytest.raises(DataError, match=r"my.csv: lines 2-145, column 'wind': constant, 3 in all"):
        csv(file=file, target="temp", columns=("wind",))
    csv(file=file, target="temp")


@pytest.mark.parametrize("value", [0.3, 1e6, 1e-200, 1e200])
@pytest.mark.parametrize("target", ["temp", "wind"])
def test_a_column_that_varies_by_rounding_alone_is_named(
    tmp_path: Path, target: str, value: float
) -> None:
    other = {"temp": "wind", "wind": "temp"}[target]
    steps = np.random.default_rng(0).integers(-2, 3, size=200) * np.spacing(value)
    rows = [[day, value + step, value + step] for day, step in enumerate(steps)]
    for row in rows:
        row[("temp", "wind").index(other) + 1] = row[0] ** 2
    file = _write(tmp_path, rows)
    said = f"column '{target}': constant, {value:g} in all training rows but for rounding"
    for chosen, columns in ((target, ()), (other, (target,))):
        with pytest.raises(DataError, match=re.escape(said)):
            csv(file=file, target=chosen, columns=columns, dates=None)


@pytest.mark.parametrize("unit", [1e200, 1e-200])
def test_units_without_squares_are_refused_for_targets_and_taken_for_features(
    tmp_path: Path, unit: float
) -> None:
    generator = np.random.default_rng(0)
    rows = [[day, *pair] for day, pair in enumerate(generator.normal(size=(200, 2)) * [1, unit])]
    file = _write(tmp_path, rows)
    with pytest.raises(DataError, match=r"my\.csv: the training targets are of the order of"):
        csv(file=file, target="wind", dates=None)
    made = csv(file=file, target="temp", columns=("wind",), dates=None)
    inputs = made.preprocessing(made.train.inputs, dtype=torch.float32)
    assert float(inputs[..., 1].std()) == pytest.approx(1, abs=0.1)


def test_too_few_rows_for_the_look_back(tmp_path: Path) -> None:
    file = _write(tmp_path, _rows()[:30])
    with pytest.raises(
        DataError, match=r"my.csv: the train part has 22 of 30 rows, too few for two"
    ):
        csv(file=file, target="temp", look_back=22)
    with pytest.raises(
        DataError, match=r"the test part has 6 of 30 rows, .* 7 rows in a row are needed"
    ):
        csv(file=file, target="temp", look_back=2, horizon=7, validation_fraction=0.0)


@pytest.mark.parametrize(
    "arguments", [{"target": "tmp"}, {"target": "temp", "columns": ("wnd",)}], ids=["target", "col"]
)
def test_columns_must_exist(tmp_path: Path, arguments: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="did you mean"):
        csv(file=_write(tmp_path, _rows()), **arguments)  # type: ignore[arg-type]


def test_data_for_a_model_trained_on_another_file(tmp_path: Path) -> None:
    one = csv(file=_write(tmp_path, _rows()), target="temp")
    rows = _rows()
    for row in rows:
        row[1] = 100 + 3 * float(str(row[1]))
    two = csv(file=_write(tmp_path, rows), target="temp")
    moved = two.for_model_of(one.task, one.preprocessing)
    assert moved.preprocessing == one.preprocessing
    assert moved.task.target_scaling == one.task.target_scaling
    assert moved.task.target_scaling is not None
    assert two.task.target_scaling is not None
    torch.testing.assert_close(
        moved.task.target_scaling.unscale(moved.test.targets),
        two.task.target_scaling.unscale(two.test.targets),
    )


def test_inputs_keep_their_digits_where_the_mean_is_large(tmp_path: Path) -> None:
    rows = _rows()
    for row in rows:
        row[1] = 1e9 + float(str(row[1]))
    dataset = csv(file=_write(tmp_path, rows), target="temp", look_back=3)
    inputs = dataset.preprocessing(dataset.train.inputs[:1])
    expected = (TEMP[:3] - TEMP[:144].mean()) / TEMP[:144].std()
    # 1e9 + 15 is stored to 1.2e-7; rounded to float32 first it would be off by up to 32.
    np.testing.assert_allclose(inputs[0, :, 0].numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("column", "row"), [(1, 50), (2, 50), (1, 0), (2, 0)])
@pytest.mark.parametrize("rule", ["drop", "forward_fill", "interpolate"])
def test_gaps_leave_finite_samples_and_statistics_of_what_is_there(
    tmp_path: Path, column: int, row: int, rule: Rule
) -> None:
    rows = _rows()
    rows[row][column] = ""
    dataset = csv(
        file=_write(tmp_path, rows), target="temp", columns=("wind",), missing=rule, look_back=5
    )
    for part in (dataset.train, dataset.validation, dataset.test):
        assert part is not None
        assert part.inputs.isfinite().all()
        assert part.targets.isfinite().all()
    assert dataset.task.forecast is not None
    if rule == "drop" or row == 0:
        known = np.delete(np.array([float(each[column]) for each in _rows()[:144]]), row)
        assert dataset.preprocessing.mean[column - 1] == pytest.approx(known.mean(), rel=1e-12)
        assert dataset.preprocessing.std[column - 1] == pytest.approx(known.std(), rel=1e-12)


def test_gaps_that_leave_no_samples_are_said_to(tmp_path: Path) -> None:
    rows = _rows()
    for row in rows[::4]:
        row[2] = ""
    with pytest.raises(DataError, match=r"7 rows in a row without an empty cell are needed"):
        csv(
            file=_write(tmp_path, rows),
            target="temp",
            columns=("wind",),
            missing="drop",
            look_back=5,
        )
