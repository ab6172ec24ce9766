"""Small runs of models with known weights, as the commands find them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import yaml
from torch import nn

from idl_cli.data.preprocessing import Preprocessing
from idl_cli.data.task import Task
from idl_cli.models.implicit import ImplicitModel
from idl_cli.run import RunDirectory, load_run
from idl_cli.run.loading import LoadedRun

PIXELS = Preprocessing("channel", (1, 4, 4), 255.0, (1, 1, 1), (0.4,), (0.3,))
PICTURES = Task("classification", (1, 4, 4), 3, ("cat", "dog", "Île"))


def make_run(
    path: Path,
    model: nn.Module,
    task: Task | None,
    preprocessing: Preprocessing | None,
    *,
    name: str = "implicit",
    group: str = "model",
    dataset: Mapping[str, object] | None = None,
    metrics: Mapping[str, object] | None = None,
) -> LoadedRun:
    """Write a finished run of a model, and load it."""
    with RunDirectory(path, command="train", seed=0) as directory:
        directory.save_model(model, preprocessing=preprocessing, task=task, name=name, group=group)
        directory.finish("completed", metrics or {})
    if dataset is not None:
        (path / ".hydra").mkdir()
        (path / ".hydra" / "config.yaml").write_text(yaml.safe_dump({"dataset": dict(dataset)}))
    return load_run(path)


def implicit(p: int, q: int, n: int = 6, *, seed: int = 0, **arguments: object) -> ImplicitModel:
    """An implicit model of drawn weights, its feedback near the bound."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ImplicitModel(p, q, n, **arguments)  # type: ignore[arg-type]
        with torch.no_grad():
            if model.rank is None:
                model.A.mul_(20)
        model.constrain_()
    return model.eval()
