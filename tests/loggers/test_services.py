"""Every service is given a run and read back with its own library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from idl_cli import registry
from idl_cli.config import check
from idl_cli.errors import MissingExtraError
from idl_cli.loggers import open_logger
from idl_cli.loggers.options import TensorboardOptions
from idl_cli.run import RunDirectory
from tests.conftest import IdlHere

pytestmark = pytest.mark.slow

SETTINGS = {"seed": 3, "model": {"name": "implicit", "kappa": 0.9, "rank": None}}
ROWS: tuple[Mapping[str, object], ...] = (
    {"step": 5, "epoch": 1, "split": "train", "loss": 0.5, "converged": True},
    {"step": 5, "epoch": 1, "split": "validation", "loss": 0.75},
    {"step": 10, "epoch": 2, "split": "train", "loss": 0.25},
)
FINAL = {"test_accuracy": 0.875, "sim": {"solver": "admm", "ab": {"relative_gap": 1e-7}}}


def record(path: Path, logger: Mapping[str, Any], *, resumed_step: int | None = None) -> None:
    """A small run through one logger."""
    schema = registry.schema_of("logger", str(logger["name"]))
    settings = {**SETTINGS, "logger": check.check(schema, logger, registry.schema_of)}
    resume = resumed_step is not None
    with RunDirectory(path, command="train", seed=3, resume=resume) as directory:
        Image.new("RGB", (3, 2)).save(path / "curves.png")
        with open_logger(settings, directory, resumed_step=resumed_step) as opened:
            for row in ROWS:
                if resumed_step is None or int(str(row["step"])) > resumed_step:
                    opened.log(row)
            opened.finish(FINAL)


# -- TensorBoard ---------------------------------------------------------------------------------


def _events(path: Path) -> Any:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(path / "tensorboard"))
    events.Reload()
    return events


def _scalars(events: Any, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_tensorboard(tmp_path: Path) -> None:
    record(tmp_path, {"name": "tensorboard"})
    events = _events(tmp_path)
    assert _scalars(events, "train/loss") == [(5, 0.5), (10, 0.25)]
    assert _scalars(events, "validation/loss") == [(5, 0.75)]
    assert _scalars(events, "final/test_accuracy") == [(0, 0.875)]
    assert "train/converged" not in events.Tags()["scalars"]
    assert events.Tags()["images"] == ["figures/curves"]
    parts = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    plugin = pytest.importorskip("tensorboard.plugins.hparams.plugin_data_pb2")
    kept = plugin.HParamsPluginData.FromString(parts).session_start_info.hparams
    assert kept["model.kappa"].number_value == 0.9
    assert kept["model.rank"].string_value == "None"


def test_tensorboard_shows_no_step_twice_after_a_resume(tmp_path: Path) -> None:
    record(tmp_path, {"name": "tensorboard"})
    (tmp_path / "summary.json").write_text('{"command": "train", "status": "interrupted"}')
    record(tmp_path, {"name": "tensorboard"}, resumed_step=5)
    assert _scalars(_events(tmp_path), "train/loss") == [(5, 0.5), (10, 0.25)]


# -- MLflow --------------------------------------------------------------------------------------


_JOB = """
import sys
from pathlib import Path
import mlflow.tracking
from tests.loggers.test_services import record
print("ready", flush=True)
sys.stdin.readline()
record(Path(sys.argv[1]), {"name": "mlflow", "tracking_uri": sys.argv[2]})
"""


def test_jobs_that_start_at_once_make_one_mlflow_store(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", _JOB, str(tmp_path / str(number)), uri],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for job in jobs:
        assert job.stdout is not None
        assert job.stdout.readline() == "ready\n"
    for job in jobs:
        assert job.stdin is not None
        job.stdin.write("go\n")
        job.stdin.flush()
    for job in jobs:
        _, errors = job.communicate()
        assert job.returncode == 0, errors
    client = MlflowClient(tracking_uri=uri)
    (experiment,) = [each for each in client.search_experiments() if each.name == "idl"]
    assert len(client.search_runs([experiment.experiment_id])) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1", "mlflow.db", "mlruns"}
    assert len(list((tmp_path / "mlruns").rglob("curves.png"))) == 2


def test_mlflow_alone_resumed_and_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(tmp_path)  # artifacts of a new local store go below the working directory
    uri = f"sqlite:///{tmp_path / 'store.db'}"
    logger = {"name": "mlflow", "tracking_uri": uri, "experiment": "mine"}
    record(tmp_path / "run", logger)
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("mine")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["model.kappa"] == "0.9"
    assert run.data.metrics["test_accuracy"] == 0.875
    assert run.data.metrics["sim.ab.relative_gap"] == 1e-7
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(each.step, each.value) for each in history] == [(5, 0.5), (10, 0.25)]
    assert [each.path for each in client.list_artifacts(run.info.run_id, "figures")] == [
        "figures/curves.png"
    ]
    both = {"name": "several", "loggers": ["tensorboard", "mlflow"], "mlflow": logger}
    record(tmp_path / "run", both, resumed_step=5)
    assert _scalars(_events(tmp_path / "run"), "train/loss") == [(10, 0.25)]
    (again,) = client.search_runs([experiment.experiment_id])
    assert again.info.run_id == run.info.run_id
    section = check.check(registry.schema_of("logger", "mlflow"), logger, registry.schema_of)
    with RunDirectory(tmp_path / "failing", command="sim") as directory:
        opened = open_logger({"logger": section}, directory)
        opened.__enter__()
        assert not opened.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert {each.info.status for each in client.search_runs([experiment.experiment_id])} == {
        "FINISHED",
        "FAILED",
    }


# -- Weights & Biases ----------------------------------------------------------------------------


def _wandb_records(path: Path) -> list[Any]:
    """All records of a finished offline run; its background process may still be writing."""
    from wandb.proto.wandb_internal_pb2 import Record
    from wandb.sdk.internal.datastore import DataStore

    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        (file,) = (path / "wandb").glob("offline-run-*/run-*.wandb")
        store, found = DataStore(), []
        try:
            store.open_for_scan(str(file))
            while (data := store.scan_data()) is not None:
                found.append(Record.FromString(data))
        except AssertionError:
            found = []
        finally:
            if store._fp is not None:
                store._fp.close()
        if found and found[-1].WhichOneof("record_type") == "exit":
            return found
    raise AssertionError(f"{path}: the record was never completed")


def _values(items: Any) -> dict[str, Any]:
    return {each.key or each.nested_key[0]: json.loads(each.value_json) for each in items}


def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    # In a process of its own: the library leaves threads and files behind that end with it.
    code = (
        "from pathlib import Path; from tests.loggers.test_services import record;"
        f"record(Path({str(tmp_path / 'run')!r}), {{'name': 'wandb', 'project': 'mine'}})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)
    records = _wandb_records(tmp_path / "run")
    (run,) = [each.run for each in records if each.WhichOneof("record_type") == "run"]
    assert run.project == "mine"
    assert _values(run.config.update)["model.kappa"] == 0.9
    history = [_values(each.history.item) for each in records if each.HasField("history")]
    train = [(row["train/step"], row["train/loss"]) for row in history if "train/loss" in row]
    assert train == [(5, 0.5), (10, 0.25)]
    summary: dict[str, Any] = {}
    for each in records:
        summary.update(_values(each.summary.update))
    assert summary["test_accuracy"] == 0.875
    assert summary["sim.ab.relative_gap"] == 1e-7
    assert any("figures/curves" in row for row in history)
    kept = json.loads((tmp_path / "run" / "logger.json").read_text())
    assert kept["wandb"]["id"] == run.run_id


# -- Trackio -------------------------------------------------------------------------------------


def test_trackio(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    code = (
        "from pathlib import Path; from tests.loggers.test_services import record;"
        f"record(Path({str(tmp_path / 'run')!r}), {{'name': 'trackio', 'project': 'mine'}});"
        "from trackio.sqlite_storage import SQLiteStorage as S; import json;"
        "name, = S.get_runs('mine');"
        "print(json.dumps([S.get_logs('mine', name), S.get_run_config('mine', name)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TRACKIO_DIR": str(tmp_path / "store")},
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    rows, config = json.loads(done.stdout.splitlines()[0])
    train = [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row]
    assert train == [(5, 0.5), (10, 0.25)]
    assert rows[-1]["final/test_accuracy"] == 0.875
    assert config["model.kappa"] == 0.9


# -- none installed -----------------------------------------------------------------


def _hide(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setattr(
        "idl_cli.registry.find_spec", lambda name: None if name == module else object()
    )


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow", "trackio"])
def test_a_missing_library_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    _hide(monkeypatch, name)
    install = rf"pip install 'idl-cli\[{name}\]'"
    alone = {"logger": check.check(registry.schema_of("logger", name), {}, registry.schema_of)}
    with pytest.raises(MissingExtraError, match=rf"logger={name} needs .*: {install}"):
        registry.require_installed(alone)
    schema = registry.schema_of("logger", "several")
    several = check.check(schema, {"loggers": [name]}, registry.schema_of)
    with pytest.raises(MissingExtraError, match=install):
        registry.require_installed({"logger": several})


def test_a_missing_library_stops_the_command_before_any_work(
    idl_here: IdlHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _hide(monkeypatch, "wandb")
    done = idl_here("train", "logger=wandb")
    assert done.status == 2
    assert done.errors.strip().endswith("pip install 'idl-cli[wandb]'")
    assert not (tmp_path / "outputs").exists()


def test_a_logger_named_twice_is_refused() -> None:
    from idl_cli.errors import ConfigError

    schema = registry.schema_of("logger", "several")
    with pytest.raises(ConfigError, match="names wandb more than once"):
        check.check(schema, {"loggers": ["wandb", "wandb"]}, registry.schema_of)


def test_every_extra_is_one_of_the_package() -> None:
    declared = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    extras: Callable[[Mapping[str, Any]], Any] = TensorboardOptions.extras
    schemas = registry.built_in_schemas("logger").values()
    names = {each.name for each in extras({})}
    for schema in schemas:
        section = check.check(schema, {}, registry.schema_of)
        names |= {each.name for each in getattr(schema, "extras", lambda _: ())(section)}
    assert all(f"\n{name} = [" in declared for name in names)
