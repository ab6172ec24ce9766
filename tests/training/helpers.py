"""Small problems and models to train, and a listener that keeps what it hears."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from idl_cli.data.loader import BatchLoader
from idl_cli.data.mixing import make_mixing
from idl_cli.data.preprocessing import Preprocessing
from idl_cli.data.split import Split
from idl_cli.data.task import Task
from idl_cli.distributed.group import Group
from idl_cli.models.implicit import ImplicitModel
from idl_cli.training import optimizers, schedulers
from idl_cli.training.callbacks import Callbacks, EpochRecord, StepReport
from idl_cli.training.losses import make_loss
from idl_cli.training.robust.training import make_robustness
from idl_cli.training.settings import TrainerSettings
from idl_cli.training.trainer import Trainer

CLASSES, FEATURES = 3, 4
CLASSIFICATION = Task("classification", (FEATURES,), CLASSES)
REGRESSION = Task("regression", (FEATURES,), 2)
SEQUENCES = Task("classification", (FEATURES // 2, 2), CLASSES, sequence=True)


class NoisyModel(nn.Module):
    """An implicit model behind dropout: its training draws from torch's global generator."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.3)
        self.implicit = ImplicitModel(FEATURES, outputs, 6)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.implicit(self.dropout(inputs))


class Listener(Callbacks):
    """Keeps every report, record and state."""

    def __init__(self) -> None:
        self.reports: list[StepReport] = []
        self.records: list[EpochRecord] = []
        self.states: list[tuple[str, dict[str, Any]]] = []

    def on_step(self, report: StepReport) -> None:
        self.reports.append(report)

    def on_epoch(self, records: Sequence[EpochRecord]) -> None:
        self.records.extend(records)

    def on_checkpoint(self, which: Literal["last", "best"], state: dict[str, Any]) -> None:
        self.states.append((which, copy.deepcopy(state)))


def samples(task: Task, count: int, seed: int = 0) -> Split:
    """Inputs on a grid of eighths, and targets that can be learned from them."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randint(-8, 9, (count, FEATURES), generator=generator) / 8
    directions = torch.randn(FEATURES, task.output_dim, generator=torch.Generator().manual_seed(1))
    outputs = inputs @ directions
    targets = outputs.argmax(dim=1) if task.kind == "classification" else outputs
    return Split(inputs.reshape(count, *task.input_shape), targets)


def loader(part: Split, batch_size: int, *, shuffle: bool = True, **options: Any) -> BatchLoader:
    return BatchLoader(
        part,
        batch_size,
        preprocessing=Preprocessing("none", tuple(part.inputs.shape[1:])),
        shuffle=shuffle,
        seed=5,
        **options,
    )


def make_trainer(
    task: Task = CLASSIFICATION,
    *,
    model: nn.Module | None = None,
    optimizer: str = "adam",
    scheduler: str = "constant",
    lr: float = 1e-2,
    batch_size: int = 8,
    count: int = 44,
    validation: bool = True,
    part: Split | None = None,
    shuffle: bool = True,
    dtype: torch.dtype = torch.float32,
    optimizer_options: dict[str, Any] | None = None,
    interrupted: Any = None,
    group: Group | None = None,
    **settings: Any,
) -> tuple[Trainer, Listener]:
    """A trainer on a small problem, its weights drawn from seed 0, and its listener."""
    torch.manual_seed(0)
    if model is None:
        model = ImplicitModel(FEATURES, task.output_dim, 6)
    model = model.to(dtype)
    options = TrainerSettings(**{"epochs": 3, **settings})
    train = samples(task, count) if part is None else part
    parts = {} if group is None else {"rank": group.rank, "ranks": group.size}
    mixing = make_mixing(task, mixup=options.mixup, cutmix=options.cutmix)
    train_loader = loader(train, batch_size, dtype=dtype, shuffle=shuffle, mixing=mixing, **parts)
    made = getattr(optimizers, optimizer)(model.parameters(), lr=lr, **(optimizer_options or {}))
    steps_per_epoch = math.ceil(len(train_loader) / options.accumulate)
    schedule = getattr(schedulers, scheduler)(
        made, total_steps=options.epochs * steps_per_epoch, steps_per_epoch=steps_per_epoch
    )
    listener = Listener()
    trainer = Trainer(
        model,
        task=task,
        train_loader=train_loader,
        validation_loader=(
            loader(samples(task, 20, seed=9), 8, shuffle=False, dtype=dtype, **parts)
            if validation
            else None
        ),
        optimizer=made,
        scheduler=schedule,
        loss=make_loss(
            task,
            loss=options.loss,
            label_smoothing=options.label_smoothing,
            class_weights=options.class_weights,
            train_targets=train.targets,
        ),
        settings=options,
        callbacks=listener,
        interrupted=interrupted,
        group=group,
        robustness=make_robustness(
            options.robust,
            options.perturbation,
            model=model,
            task=task,
            preprocessing=Preprocessing("none", task.input_shape),
            device="cpu",
        ),
    )
    return trainer, listener


def without_seconds(value: Any) -> Any:
    """A record or a state without what a clock says."""
    if isinstance(value, dict):
        return {k: without_seconds(v) for k, v in value.items() if "second" not in str(k)}
    return [without_seconds(entry) for entry in value] if isinstance(value, list) else value
