"""A run directory on several ranks: one writes, the others look on."""

import inspect
from pathlib import Path

from matplotlib.figure import Figure
from torch import nn

from idl_cli.run import RunDirectory, read_metrics
from idl_cli.run.shared import LentRunDirectory, ObservedRunDirectory

READERS = {"checkpoint_path", "load_checkpoint", "close"}


def test_who_was_lent_a_directory_writes_without_the_lock(tmp_path: Path) -> None:
    with RunDirectory(tmp_path, command="sim") as holder:
        holder.append_metrics({"step": 1})
        lent = LentRunDirectory(tmp_path, command="sim")
        assert lent.metrics_rows == 1
        lent.append_metrics({"step": 2})
        lent.close()
        assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]
        assert (tmp_path / ".lock").exists()


def test_who_looks_on_writes_nothing_and_counts_the_rows(tmp_path: Path) -> None:
    missing = tmp_path / "on another machine"
    observed = ObservedRunDirectory(missing, command="sim")
    observed.append_metrics({"step": 1})
    observed.append_metrics({"step": 2})
    assert observed.metrics_rows == 2
    observed.truncate_metrics(1)
    assert observed.metrics_rows == 1
    observed.write_json("a.json", {})
    observed.finish("completed", {})
    assert not missing.exists()


def test_every_method_that_writes_is_left_to_rank_0() -> None:
    public = {
        name
        for name, _ in inspect.getmembers(RunDirectory, inspect.isfunction)
        if not name.startswith("_")
    }
    own = set(vars(ObservedRunDirectory))
    left = {name for name in public if hasattr(getattr(RunDirectory, name), "__wrapped__")}
    assert not own & left, "each in one way"
    assert public - READERS == public & (own | left)


def test_nothing_that_is_left_to_rank_0_touches_the_disk(tmp_path: Path) -> None:
    missing = tmp_path / "on another machine"
    observed = ObservedRunDirectory(missing, command="sim")
    observed.save_checkpoint("last", {}, {})
    observed.adopt(tmp_path)
    observed.save_model(nn.Linear(1, 1), preprocessing=None, task=None)
    observed.write_text("a.txt", "x")
    observed.write_table("a.csv", [{"a": 1}])
    observed.write_tensors("a.safetensors", {})
    observed.save_figure("a", Figure())
    assert list(tmp_path.iterdir()) == []
