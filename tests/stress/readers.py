"""Every reader of files that others may have written, with intact files to begin from."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import logging
import os
import tarfile
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from idl_cli.analysis.columns import columns_of
from idl_cli.analysis.comparison import ordered
from idl_cli.commands.compare.comparison_table import FORMATS
from idl_cli.commands.list import summaries
from idl_cli.config.options import config_directory
from idl_cli.data.images.cifar import CIFAR10, cifar10
from idl_cli.data.images.mnist import mnist
from idl_cli.data.preprocessing import Preprocessing
from idl_cli.data.series.csv_series import csv
from idl_cli.data.tables.arrays import arrays
from idl_cli.data.task import Task
from idl_cli.models.implicit import ImplicitModel
from idl_cli.reports.entries import find_entries
from idl_cli.reports.run_page import run_page
from idl_cli.requests.preflight import Request, preflight
from idl_cli.run import RunDirectory, load_run, read_metrics
from idl_cli.run.files import csv_bytes, json_bytes
from idl_cli.run.state import read_state
from idl_cli.sim.statistics.dense import SufficientStatistics
from idl_cli.sweeps.jobs import job_rows
from idl_cli.sweeps.recorded_plan import planned_jobs, read_plan
from tests.stress import mutate
from tests.stress.mutate import Mutator
from tests.sub_commands import COMMANDS

Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Reader:
    """A reader.

    Attributes:
        files: intact files by name below a directory.
        mutators: how each file may be damaged, by what its name ends in.
        read: reads the directory.
        share: inputs it gets in each round of all readers; those that take long get one.
    """

    files: Files
    mutators: Mapping[str, Mutator]
    read: Callable[[Path], object]
    share: int = 5

    def mutator_of(self, name: str) -> Mutator:
        return next(each for end, each in self.mutators.items() if name.endswith(end))


def readers() -> dict[str, Reader]:
    """All readers by name, the intact files made anew."""
    return {
        "npz": Reader(_npz(), {"": mutate.zipped(mutate.npy)}, lambda d: arrays(file=f"{d}/a.npz")),
        "npy": Reader(
            _npy(), {"": mutate.npy}, lambda d: arrays(file=f"{d}/x.npy", target=f"{d}/y.npy")
        ),
        "images": Reader(_images(), {"": mutate.blind}, lambda d: arrays(file=str(d))),
        "idx": Reader(
            _idx(),
            {".gz": mutate.gzipped(mutate.blind), "": mutate.blind},
            lambda d: mnist(root=str(d)),
        ),
        "cifar_archive": Reader(
            _archive(), {"": mutate.gzipped(mutate.tar)}, lambda d: cifar10(root=str(d))
        ),
        "cifar_files": Reader(_cifar(), {"": mutate.blind}, lambda d: cifar10(root=str(d))),
        "csv": Reader(_csv(), {"": mutate.text}, lambda d: csv(file=f"{d}/t.csv", target="y")),
        "model": Reader(_model(), {"": mutate.safetensors}, load_run),
        "checkpoint": Reader(
            _checkpoint(), {"": mutate.safetensors}, lambda d: read_state(d / "last.safetensors")
        ),
        "statistics": Reader(
            _statistics(),
            {"": mutate.safetensors},
            lambda d: SufficientStatistics.load(d / "s.safetensors"),
        ),
        "metrics": Reader(_metrics(), _OF_RECORDS, read_metrics),
        "records": Reader({**_records("a"), **_records("b")}, _OF_RECORDS, _compare, 1),
        "sweep": Reader(_sweep(), _OF_RECORDS, _read_sweep, 1),
        "report": Reader(_records("x"), _OF_RECORDS, lambda d: run_page(d / "x", COMMANDS), 1),
        "config": Reader(_config(), {"": mutate.yaml}, _compose, 1),
    }


_OF_RECORDS: Mapping[str, Mutator] = {
    ".json": mutate.json_document,
    ".jsonl": mutate.json_lines,
    ".yaml": mutate.yaml,
    "": mutate.text,
}


def write(files: Files, directory: Path) -> None:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@contextlib.contextmanager
def silence():  # type: ignore[no-untyped-def]
    """Keep what readers say to people away from the table of figures."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)


# -- reading ---------------------------------------------------------------------------------------


def _compare(directory: Path) -> None:
    entries = find_entries([directory], COMMANDS)
    columns = columns_of(entries)
    for deliver in FORMATS.values():
        deliver(ordered(entries), columns, ())


def _read_sweep(directory: Path) -> None:
    rows = job_rows(planned_jobs(directory), directory)
    csv_bytes(rows)
    json_bytes(rows)
    read_plan(directory, "train")


def _compose(directory: Path) -> None:
    summaries("experiment", [config_directory(), directory])
    preflight(
        Request(COMMANDS["train"], COMMANDS, ("experiment=e",), False, "train", None, (directory,))
    )


# -- intact files ----------------------------------------------------------------------------------


def _saved(save: Callable[[io.BytesIO], object]) -> bytes:
    stream = io.BytesIO()
    save(stream)
    return stream.getvalue()


def _samples() -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2


def _npz() -> Files:
    inputs, targets = _samples()
    names = np.array(["no", "yes"])[targets]
    parts = {"inputs": inputs, "targets": names, "notes": np.arange(3)}
    return {"a.npz": _saved(partial(np.savez_compressed, **parts))}


def _npy() -> Files:
    arrays_ = dict(zip(("x.npy", "y.npy"), _samples(), strict=True))
    return {name: _saved(partial(np.save, arr=array)) for name, array in arrays_.items()}


def _images() -> Files:
    generator = np.random.default_rng(0)
    files = {}
    for index, form in enumerate(("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm")):
        pixels = Image.fromarray(generator.integers(0, 256, (6, 5, 3), dtype=np.uint8))
        suffix = {"jpeg": "jpg", "tiff": "tif"}.get(form, form)
        for label in ("cat", "dog"):
            files[f"{label}/{index}.{suffix}"] = _saved(lambda s, f=form, p=pixels: p.save(s, f))
    return files


def _idx() -> Files:
    files = {}
    for part in ("train", "t10k"):
        pixels, labels = bytes(12 * 4 * 4), bytes(range(10)) + bytes(2)
        images = bytes([0, 0, 8, 3, 0, 0, 0, 12, 0, 0, 0, 4, 0, 0, 0, 4]) + pixels
        files[f"{part}-images-idx3-ubyte.gz"] = gzip.compress(images, mtime=0)
        files[f"{part}-labels-idx1-ubyte"] = bytes([0, 0, 8, 1, 0, 0, 0, 12]) + labels
    return files


def _cifar() -> Files:
    records = b"".join(bytes([label]) + bytes(3072) for label in range(4))
    names = "\n".join(f"class {label}" for label in range(10)).encode()
    files = dict.fromkeys((*CIFAR10.train, *CIFAR10.test), records)
    return {
        f"{CIFAR10.folder}/{name}": each
        for name, each in (files | {CIFAR10.class_names: names}).items()
    }


def _archive() -> Files:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in _cifar().items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return {CIFAR10.source.files[0].name: gzip.compress(packed.getvalue(), 1, mtime=0)}


def _csv() -> Files:
    rows = (f"2020-{1 + day // 28:02}-{1 + day % 28:02},{day % 7},{day * 0.5}" for day in range(60))
    return {"t.csv": "\n".join(("date,y,z", *rows)).encode()}


def _model() -> Files:
    torch.manual_seed(0)
    model = ImplicitModel(input_dim=3, output_dim=2, hidden_dim=4)
    preprocessing = Preprocessing("feature", (3,), 1.0, (3,), (0.0,) * 3, (1.0,) * 3)
    with tempfile.TemporaryDirectory() as name, RunDirectory(name, command="train") as directory:
        task = Task("classification", (3,), 2, ("no", "yes"))
        directory.save_model(model, preprocessing=preprocessing, task=task)
        return {"model.safetensors": (directory.path / "model.safetensors").read_bytes()}


def _checkpoint() -> Files:
    state = {
        "metrics_rows": 2,
        "trainer": {"model": {"A": torch.eye(3)}, "progress": (1, 2.5, None)},
    }
    with tempfile.TemporaryDirectory() as name, RunDirectory(name, command="train") as directory:
        directory.save_checkpoint("last", state, {})
        return {"last.safetensors": directory.checkpoint_path("last").read_bytes()}


def _statistics() -> Files:
    statistics = SufficientStatistics(2, 2, {"Z": 2, "Y": 1})
    states = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
    statistics.update(states, states, {"Z": states, "Y": states[:, :1]})
    with tempfile.TemporaryDirectory() as name:
        statistics.save(Path(name, "s.safetensors"))
        return {"s.safetensors": Path(name, "s.safetensors").read_bytes()}


def _records(run: str) -> Files:
    summary = {
        "command": "train",
        "status": "completed",
        "seed": 0,
        "seconds": 1.5,
        "metrics": {"test_accuracy": 0.5, "train_accuracy": 0.6, "test_loss": 1.0},
        "sim": {
            "nonzero_fraction": 0.2,
            "agreement": 0.9,
            "ab": {"status": "optimal", "relative_gap": 1e-7},
        },
        "training": {"epochs": 3, "best_epoch": 2, "inf_norm_A": 0.9, "parameters": 12},
        "shift": [{"shift": 1.0, "distance": 0.0, "error": 0.1}],
    }
    row = {"step": 1, "epoch": 1, "split": "train", "loss": 2.0, "accuracy": 0.4}
    config = (
        "seed: 0\nmodel:\n  name: implicit\n  hidden_dim: 4\ndataset:\n  name: digits\n"
        "trainer:\n  name: gradient\n  epochs: 3\n"
    )
    files = {
        "summary.json": json.dumps(summary),
        "metrics.jsonl": f"{json.dumps(row)}\n" * 3,
        "environment.json": json.dumps({"python": "3", "threads": 1, "packages": {"torch": "2"}}),
        ".hydra/config.yaml": config,
        ".hydra/hydra.yaml": "hydra:\n  job:\n    name: train\n",
        ".hydra/overrides.yaml": f"- seed=0\n- model.hidden_dim={len(run)}\n",
    }
    return {f"{run}/{name}": content.encode() for name, content in files.items()}


def _metrics() -> Files:
    return {"metrics.jsonl": _records("x")["x/metrics.jsonl"]}


def _sweep() -> Files:
    jobs = [{"job": job, "overrides": ["seed=0", f"model.hidden_dim={1}"]} for job in (0, 1)]
    plan = {"command": "train", "request": ["seed=0"], "added": [], "jobs": jobs}
    hydra = "hydra:\n  job:\n    name: train\n  overrides:\n    task:\n    - seed=0\n"
    parts = {"jobs.json": json.dumps(plan).encode(), "multirun.yaml": hydra.encode()}
    return {**_records("0"), **_records("1"), **parts}


def _config() -> Files:
    preset = (
        "# @package _global_\n# A preset\ndefaults:\n  - override /model: implicit\n"
        "trainer:\n  epochs: 2\nmodel:\n  hidden_dim: 5\n"
    )
    return {
        "experiment/e.yaml": preset.encode(),
        "model/own.yaml": b"name: implicit\nhidden_dim: 7\n",
    }


def scratch() -> Path:
    """Where the files of an input are written: in memory where the system has such a place."""
    return Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())
