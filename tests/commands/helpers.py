"""Running ``idl train`` and ``idl eval`` without a process: settings, a directory, silence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from idl_cli import registry
from idl_cli.commands.eval import run as eval_command
from idl_cli.commands.eval.settings import EvalSettings
from idl_cli.commands.train import run as train_command
from idl_cli.commands.train.settings import TrainSettings
from idl_cli.config import check
from idl_cli.reporting import Reporter, SilentReporter
from idl_cli.run import RunDirectory
from tests.coarse_figures import coarse_figures

SMALL: Mapping[str, Any] = {
    "model": {"name": "implicit", "hidden_dim": 12},
    "dataset": {"name": "digits", "train_samples": 150, "test_samples": 60},
    "trainer": {"name": "gradient", "epochs": 4, "batch_size": 32},
    "optimizer": {"name": "adam", "lr": 5e-3},
    "scheduler": {"name": "constant"},
    "logger": {"name": "jsonl"},
    "seed": 0,
    "device": "cpu",
    "threads": 1,
}


SIM = (
    "teacher.hidden_dims=[12]",
    "teacher.epochs=8",
    "teacher.lr=1e-2",
    "dataset.train_samples=400",
    "dataset.test_samples=100",
    "threads=1",
)
"""Arguments of an ``idl sim`` that takes a second and whose teacher has learnt something."""


def read_json(file: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(file.read_text())
    return values


def summary_of(run: Path) -> dict[str, Any]:
    return read_json(run / "summary.json")


def train_settings(**changes: Any) -> TrainSettings:
    """Checked settings of a small training; sections are merged with the small ones'."""
    values: dict[str, Any] = dict(SMALL)
    for key, value in changes.items():
        merge = (
            isinstance(value, dict) and value.get("name", SMALL[key]["name"]) == SMALL[key]["name"]
        )
        values[key] = {**SMALL[key], **value} if merge else value
    checked = check.check(TrainSettings, values, registry.schema_of)
    settings: TrainSettings = check.instantiate(TrainSettings, checked)
    return settings


def train(path: Path, *, reporter: Reporter | None = None, **changes: Any) -> dict[str, Any]:
    """Train in a directory and finish its summary, as the job around the command does."""
    settings = train_settings(**changes)
    resume = settings.resume == "auto"
    with RunDirectory(path, command="train", seed=settings.seed, resume=resume) as directory:
        with coarse_figures():
            result: dict[str, Any] = train_command.run(
                settings, directory, reporter or SilentReporter()
            )
        sections = {key: value for key, value in result.items() if key != "metrics"}
        directory.finish("completed", result["metrics"], sections=sections)
    return result


def evaluate(path: Path, **values: Any) -> dict[str, Any]:
    """Evaluate into a directory."""
    checked = check.check(EvalSettings, {"device": "cpu", **values}, registry.schema_of)
    settings: EvalSettings = check.instantiate(EvalSettings, checked)
    with RunDirectory(path, command="eval", seed=settings.seed) as directory:
        return eval_command.run(settings, directory, SilentReporter())


class Spoken(SilentReporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.facts_told: dict[str, Mapping[str, object]] = {}
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def facts(self, title: str, pairs: Mapping[str, object]) -> None:
        self.facts_told[title] = pairs
