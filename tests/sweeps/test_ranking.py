"""A sweep has one winner, wherever it is asked for."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from idl_cli.analysis.comparison import metric_of
from idl_cli.analysis.plot_choice import variation
from idl_cli.cli import main
from idl_cli.reporting import SilentReporter
from idl_cli.reports.entries import find_entries
from idl_cli.sweeps.report import report_sweep
from tests.sub_commands import COMMANDS

BOTH = ({"validation_accuracy": 0.8, "test_accuracy": 0.9}, {"validation_accuracy": 0.9})


class _Listener(SilentReporter):
    def __init__(self) -> None:
        self.tables: dict[str, Sequence[Sequence[object]]] = {}

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        self.tables[title] = rows


def _sweep(directory: Path, metrics: Sequence[Mapping[str, float]], wanted: str | None) -> None:
    for number, each in enumerate(metrics):
        hydra = directory / str(number) / ".hydra"
        hydra.mkdir(parents=True)
        config = {"trainer": {"name": "gradient"}, "seed": number, "optimized_metric": wanted}
        (hydra / "config.yaml").write_text(yaml.safe_dump(config))
        (hydra / "overrides.yaml").write_text(f"- seed={number}\n")
        summary = {"command": "train", "status": "completed", "seconds": 1.0, "metrics": each}
        (directory / str(number) / "summary.json").write_text(json.dumps(summary))


@pytest.mark.parametrize(
    ("metrics", "wanted", "metric", "winner"),
    [
        ([*BOTH[:1], {**BOTH[1], "test_accuracy": 0.7}], None, "validation_accuracy", 1),
        ([*BOTH[:1], {**BOTH[1], "test_accuracy": 0.7}], "test_accuracy", "test_accuracy", 0),
        ([{"test_accuracy": 0.7}, {"test_accuracy": 0.9}], None, "test_accuracy", 1),
        (
            [{"validation_loss": 2.0, "test_mse": 1.0}, {"validation_loss": 1.0, "test_mse": 2.0}],
            None,
            "validation_loss",
            1,
        ),
        ([{"test_loss": 2.0}, {"test_loss": 1.0}], None, "test_loss", 1),
    ],
)
def test_table_page_plots_and_comparison_agree(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    metrics: Sequence[Mapping[str, float]],
    wanted: str | None,
    metric: str,
    winner: int,
) -> None:
    _sweep(tmp_path, metrics, wanted)
    listener = _Listener()
    report_sweep(tmp_path, COMMANDS, listener, wanted)
    assert listener.tables[f"sweep, best {metric} first"][0][0] == winner
    page = (tmp_path / "sweep.html").read_text()
    words = metric.replace("_", " ")
    assert f"Jobs, best {words} first" in page
    assert f"best {words}" in page
    assert f"job {winner}" in page
    assert f"job {1 - winner}" not in page.partition("Jobs, best")[0]
    assert main(["compare", str(tmp_path), "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["run"] for row in rows] == [str(winner), str(1 - winner)]
    assert main(["compare", str(tmp_path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith(f"2 runs, all completed, best {metric} first run ")
    entries = find_entries([tmp_path], COMMANDS)
    assert metric_of(entries) == metric
    varied = variation(entries)
    assert varied is not None
    assert varied.metric == metric
    assert main(["compare", str(tmp_path), "--sort", "seed"]) == 0
    assert "best" not in capsys.readouterr().out


def test_runs_that_name_different_metrics_are_ranked_by_the_rule(tmp_path: Path) -> None:
    both = {"validation_accuracy": 0.8, "test_accuracy": 0.9}
    _sweep(tmp_path / "a", [both], "test_accuracy")
    _sweep(tmp_path / "b", [both], None)
    assert metric_of(find_entries([tmp_path], COMMANDS)) == "validation_accuracy"


def test_where_files_are_tells_no_runs_apart_and_a_device_does(tmp_path: Path) -> None:
    _sweep(tmp_path, BOTH, None)
    for number, threads in enumerate((1, 2)):
        file = tmp_path / str(number) / ".hydra" / "config.yaml"
        config = yaml.safe_load(file.read_text())
        config.update(threads=threads, join_timeout=10.0 + number, profile=bool(number), seed=0)
        config["trainer"]["checkpoint_every"] = 1 + number
        file.write_text(yaml.safe_dump(config))
    (tmp_path / "multirun.yaml").touch()
    assert main(["compare", str(tmp_path), "--output", str(tmp_path / "table.csv")]) == 0
    head = (tmp_path / "table.csv").read_text().splitlines()[0].split(",")
    assert head[:4] == ["run", "status", "threads", "validation_accuracy"]
