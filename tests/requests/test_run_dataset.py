from __future__ import annotations

import json
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from idl_cli.errors import ConfigError
from idl_cli.requests.run_dataset import with_dataset_of_run

DATASET: dict[str, object] = {
    "name": "csv",
    "file": "its\\a 'file', of µ.csv",
    "columns": ["a", "b:c"],
    "look_back": None,
    "test_fraction": 0.25,
    "whole": True,
    "empty": [],
}


def _run(folder: Path, dataset: object) -> str:
    (folder / ".hydra").mkdir()
    (folder / "summary.json").write_text(json.dumps({"command": "train", "status": "completed"}))
    (folder / ".hydra" / "config.yaml").write_text(json.dumps({"dataset": dataset}))
    return f"run={folder}"


def test_the_runs_data_set_comes_before_the_keys_that_change_it(tmp_path: Path) -> None:
    given = [_run(tmp_path, DATASET), "dataset.look_back=5"]
    name, *own = with_dataset_of_run(given)[: -len(given)]
    assert name == "dataset=csv"
    parsed = [OverridesParser.create().parse_override(text) for text in own]
    values = {each.key_or_group.removeprefix("dataset."): each.value() for each in parsed}
    assert json.loads(json.dumps(values, default=str)) == {
        key: value for key, value in DATASET.items() if key != "name"
    }
    assert with_dataset_of_run(given)[-2:] == given


@pytest.mark.parametrize(
    "given", [["run=a"], ["run=a", "dataset=spiky", "dataset.points=5"], ["shifts=[1]", "run=a"]]
)
def test_other_requests_stay_as_they_are(given: list[str]) -> None:
    assert with_dataset_of_run(given) == given


def test_runs_that_say_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="says nothing of its data set"):
        with_dataset_of_run([_run(tmp_path, None), "dataset.points=5"])
    with pytest.raises(ConfigError, match="of which data set"):
        with_dataset_of_run(["dataset.points=5"])
    with pytest.raises(ConfigError, match="of which data set"):
        with_dataset_of_run(["run=a,b", "dataset.points=5"])
