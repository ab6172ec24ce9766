"""How a teacher is trained: Adam under one cycle, few epochs, nothing to tune."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from idl_cli import registry
from idl_cli.assembly.compute import Compute
from idl_cli.data.dataset import Dataset
from idl_cli.data.loader import BatchLoader
from idl_cli.distributed.process import watch_signals
from idl_cli.reporting import Reporter, TrainingReporter
from idl_cli.run import RunDirectory
from idl_cli.training.callbacks import Callbacks, EpochRecord, StepReport
from idl_cli.training.losses import make_loss
from idl_cli.training.settings import TrainerSettings
from idl_cli.training.trainer import Trainer


def teacher_trainer(
    model: nn.Module,
    dataset: Dataset,
    compute: Compute,
    *,
    seed: int,
    epochs: int,
    batch_size: int,
    lr: float,
    keep_sparsity: bool = False,
) -> Trainer:
    """Adam under a one-cycle schedule: good weights in few epochs, without tuning."""
    loader = BatchLoader(
        dataset.train,
        min(batch_size, len(dataset.train)),
        preprocessing=dataset.preprocessing,
        shuffle=True,
        seed=seed,
        augmentation=dataset.augmentation,
        device=compute.device,
        dtype=compute.dtype,
    )
    options = TrainerSettings(epochs=epochs, keep_sparsity=keep_sparsity)
    optimizer = registry.build(
        "optimizer",
        {"name": "adam", "lr": lr},
        parameters=list(model.parameters()),
    )
    scheduler = registry.build(
        "scheduler",
        {"name": "one_cycle"},
        optimizer=optimizer,
        total_steps=options.epochs * len(loader),
        steps_per_epoch=len(loader),
    )
    return Trainer(
        model,
        task=dataset.task,
        train_loader=loader,
        validation_loader=None,
        optimizer=optimizer,
        scheduler=scheduler,
        loss=make_loss(dataset.task, device=compute.device),
        settings=options,
        lr_key="teacher.lr",
    )


def train_teacher(
    model: nn.Module,
    teacher: Mapping[str, Any],
    seed: int,
    dataset: Dataset,
    compute: Compute,
    kept: RunDirectory,
    console: Reporter,
) -> None:
    """Train a teacher to its end.

    Args:
        model: trained in place.
        teacher: its settings.
        seed: of the order of the batches.
        dataset: to train on.
        compute: device and dtype.
        kept: where its epochs are written down.
        console: shown the training.
    """
    trainer = teacher_trainer(
        model,
        dataset,
        compute,
        seed=seed,
        epochs=int(teacher["epochs"]),
        batch_size=int(teacher["batch_size"]),
        lr=float(teacher["lr"]),
    )
    reporting = console.training(
        epochs=trainer.settings.epochs, steps_per_epoch=trainer.steps_per_epoch
    )
    with reporting as reporter, watch_signals() as watch:
        trainer.callbacks = _Recorder(kept, reporter)
        trainer.interrupted = lambda: watch.received
        trainer.fit()


class _Recorder(Callbacks):
    """Writes the teacher's epochs down and shows them; its checkpoints are not worth a file."""

    def __init__(self, kept: RunDirectory, reporter: TrainingReporter) -> None:
        self._kept = kept
        self._reporter = reporter

    def on_step(self, report: StepReport) -> None:
        self._reporter.on_step({"loss": report.loss})

    def on_epoch(self, records: Sequence[EpochRecord]) -> None:
        for record in records:
            self._kept.append_metrics(record)
            if record["split"] == "train":
                self._reporter.on_epoch(record)
