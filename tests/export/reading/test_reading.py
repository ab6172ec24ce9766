"""Samples of every form become the same tensors, in blocks; what cannot be used is named."""

from __future__ import annotations

import io
import sys
import tracemalloc
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from idl_cli.data.series.forecast import Forecast
from idl_cli.data.series.missing import fill
from idl_cli.data.series.windows import Parts
from idl_cli.data.task import Task
from idl_cli.errors import ConfigError, DataError, IgnoredOptionWarning
from idl_cli.export.reading.rows import Rows
from idl_cli.export.reading.series import series_rows
from idl_cli.export.reading.source import Reading, open_source
from idl_cli.export.reading.tables import TableBlock
from tests.export.makers import PICTURES

FLAT = Task("regression", (3,), 1)
VALUES = np.arange(12.0).reshape(4, 3)


def read(source: Path | str, reading: Reading) -> list[Rows]:
    with ExitStack() as stack:
        return list(open_source(str(source), reading, stack))


def values_of(blocks: list[Rows]) -> torch.Tensor:
    return torch.cat([block.values for block in blocks])


@pytest.mark.parametrize("form", ["npy", "npz", "csv", "bare.csv", "parquet", "stdin"])
def test_every_form_gives_the_same_samples(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / f"input.{form}"
    if form == "npy":
        np.save(file, VALUES)
    elif form == "npz":
        np.savez(file, inputs=VALUES, targets=np.zeros(4))
    elif form == "parquet":
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet as pq

        pq.write_table(pa.table(dict(zip("abc", VALUES.T, strict=True))), file)
    else:
        header = [] if form == "bare.csv" else ["a;b;c"]
        rows = [";".join(map(str, row)) for row in VALUES]
        file.write_text("\n".join([*header, *rows]))
    source: Path | str = file
    if form == "stdin":
        source = "-"
        stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO(file.read_bytes())))
        monkeypatch.setattr(sys, "stdin", stdin)
    blocks = read(source, Reading(FLAT, {}, block=3))
    assert [len(block.names) for block in blocks] == [3, 1]
    torch.testing.assert_close(values_of(blocks), torch.from_numpy(VALUES), rtol=0, atol=0)
    assert not any(block.problems for block in blocks)


def test_cells_that_are_no_numbers_are_named_and_their_rows_kept(tmp_path: Path) -> None:
    file = tmp_path / "input.csv"
    file.write_bytes(b"id,b,a,c\nx,2,1,3\ny,two,1,3\nz,2,1\n,2,,inf\nw,\xff,1,3\nv,5,4,6\n")
    (block,) = read(file, Reading(FLAT, {}, columns=("a", "b", "c")))
    assert block.values[[0, 5]].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert list(block.problems) == [1, 2, 3, 4]
    assert "line 3: column 'b' has no number: 'two'" in block.problems[1]
    assert "line 4: 3 cells" in block.problems[2]
    assert "column 'a' has no value" in block.problems[3]
    assert "\\" in block.problems[4]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("a,b,c\n", "no rows follow"),
        ("a\0,b,c\n1,2,3\n", "no text in UTF-8"),
        ("a,b\n1,2\n", "takes 3 numbers"),
        ("1,2\n", "2 numbers in the first row"),
        ('a,b,c\n1,2,"3\n', "quotation mark"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "input.csv"
    file.write_text(text)
    with pytest.raises((ConfigError, DataError), match=sentence):
        read(file, Reading(FLAT, {}))


def test_arrays_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "input.npy"
    np.save(file, np.zeros((2, 5)))
    with pytest.raises(DataError, match=r"samples of shape 5, where the model takes 3"):
        read(file, Reading(FLAT, {}))
    np.save(file, np.array([None, 1]), allow_pickle=True)
    with pytest.raises(DataError, match="pickled objects"):
        read(file, Reading(FLAT, {}))
    np.save(file, VALUES)
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(DataError, match="ends after 0 of 4 rows"):
        read(file, Reading(FLAT, {}))
    np.savez(tmp_path / "input.npz", x_train=VALUES, x_test=VALUES)
    with pytest.raises(ConfigError, match="Give key=NAME of x_train, x_test"):
        read(tmp_path / "input.npz", Reading(FLAT, {}))
    blocks = read(tmp_path / "input.npz", Reading(FLAT, {}, key="x_test"))
    assert values_of(blocks).tolist() == VALUES.tolist()


def test_samples_that_are_not_finite_cannot_be_used(tmp_path: Path) -> None:
    values = VALUES.copy()
    values[2, 1] = np.nan
    np.save(tmp_path / "input.npy", values)
    (block,) = read(tmp_path / "input.npy", Reading(FLAT, {}))
    assert list(block.problems) == [2]
    assert block.values[[0, 1, 3]].tolist() == VALUES[[0, 1, 3]].tolist()


@pytest.mark.parametrize("shape", [(1, 4, 4), (4, 4, 1), (4, 4), (16,)])
def test_images_in_any_order_of_their_dimensions(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pixels = np.arange(32, dtype=np.uint8).reshape(2, *shape)
    np.save(tmp_path / "input.npy", pixels)
    values = values_of(read(tmp_path / "input.npy", Reading(PICTURES, {})))
    assert values.shape == (2, 1, 4, 4)
    assert values.dtype == torch.uint8
    assert values.flatten().tolist() == list(range(32))


def test_a_folder_of_images(tmp_path: Path) -> None:
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    (tmp_path / "sub").mkdir()
    Image.fromarray(pixels).save(tmp_path / "b.png")
    Image.fromarray(np.stack([pixels] * 3, axis=-1)).save(tmp_path / "sub" / "a.png")
    Image.fromarray(pixels[:3]).save(tmp_path / "c.png")
    Image.fromarray(np.stack([pixels, pixels + 1, pixels], axis=-1)).save(tmp_path / "d.png")
    (tmp_path / "e.png").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.warns(IgnoredOptionWarning, match=r"1 of its files are no images .*notes\.txt"):
        blocks = read(tmp_path, Reading(PICTURES, {}, block=2))
    names = [name for block in blocks for name in block.names]
    assert names == ["b.png", "c.png", "d.png", "e.png", "sub/a.png"]
    values = values_of(blocks)
    assert values[[0, 4], 0].tolist() == [pixels.tolist()] * 2
    problems = {block.names[row]: why for block in blocks for row, why in block.problems.items()}
    assert "4 × 3 pixels" in problems["c.png"]
    assert "colour image" in problems["d.png"]
    assert "not an intact image" in problems["e.png"]
    assert len(problems) == 3


def test_memory_is_that_of_a_block(tmp_path: Path) -> None:
    rows = 100_000
    np.save(tmp_path / "input.npy", np.zeros((rows, 64)))  # 51 MB
    with (tmp_path / "input.csv").open("w") as file:
        file.writelines(["a,b,c\n", *["1,2,3\n"] * rows])
    for name, task in (("npy", Task("regression", (64,), 1)), ("csv", FLAT)):
        with ExitStack() as stack:
            blocks = open_source(str(tmp_path / f"input.{name}"), Reading(task, {}), stack)
            next(blocks)
            tracemalloc.start()
            try:
                count = 128 + sum(len(block.names) for block in blocks)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        assert count == rows
        assert peak < 2_000_000  # a block of 128 × 64 float64 has 65,536 bytes


# -- series --------------------------------------------------------------------------------------


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.integers(-9, 9)), min_size=4, max_size=40),
    st.integers(1, 4),
    st.integers(1, 7),
    st.sampled_from(["drop", "forward_fill", "interpolate", "error"]),
)
def test_windows_do_not_depend_on_the_blocks(
    cells: list[int | None], look_back: int, block: int, rule: str
) -> None:
    """Each window is the one of the whole series cut off at its last row: no future in it."""
    series = np.array([np.nan if cell is None else cell for cell in cells], dtype=float)[:, None]
    blocks = [
        TableBlock(
            [str(row) for row in range(first, min(first + block, len(series)))],
            series[first : first + block],
            {},
        )
        for first in range(0, len(series), block)
    ]
    rows = list(series_rows(blocks, look_back, rule, "here"))  # type: ignore[arg-type]
    names = [name for each in rows for name in each.names]
    assert names == [str(end) for end in range(look_back - 1, len(series))]
    windows = torch.cat([each.values for each in rows]).numpy()
    bad = {each.names[row] for each in rows for row in each.problems}
    for name, window in zip(names, windows, strict=True):
        end = int(name) + 1
        parts = Parts(end, end, end)
        past = fill(series[:end], rule, parts)[end - look_back :]  # type: ignore[arg-type]
        unusable = np.isnan(past).any() or (
            rule == "interpolate" and bool(np.isnan(series[end - 1]).any())
        )
        assert (name in bad) == unusable
        if not unusable:
            np.testing.assert_allclose(window, past, rtol=1e-15, atol=0)


SERIES = Task("regression", (2, 2), 1, sequence=True, forecast=Forecast("y", 0, 1))
OF_RUN = {
    "name": "csv",
    "target": "y",
    "columns": ["x"],
    "dates": "auto",
    "date_format": None,
    "missing": "auto",
    "delimiter": "auto",
    "decimal": "comma",
    "thousands": None,
}


def test_a_series_is_read_with_the_columns_and_signs_of_the_run(tmp_path: Path) -> None:
    file = tmp_path / "input.csv"
    file.write_text("x;date;y\n1,5;2020-01;10\n2,5;2020-02;20\n3,5;2020-03;30\n")
    (block,) = read(file, Reading(SERIES, OF_RUN))
    assert block.names == ["2020-02", "2020-03"]
    assert block.values.tolist() == [[[10, 1.5], [20, 2.5]], [[20, 2.5], [30, 3.5]]]
    file.write_text("x;date;y\n1,5;2020-02;10\n2,5;2020-01;20\n")
    with pytest.raises(DataError, match="2020-01 does not come after 2020-02"):
        read(file, Reading(SERIES, OF_RUN))
    file.write_text("x;date;y\n1,5;2020-02;10\n")
    with pytest.raises(DataError, match="1 rows, where the model reads windows of 2"):
        read(file, Reading(SERIES, OF_RUN))
