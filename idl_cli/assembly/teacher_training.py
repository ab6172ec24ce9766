"""How a teacher is trained: Adam under one cycle, few epochs, nothing to tune."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from idl_cli import registry
from idl_cli.assembly.compute import Compute, RunContext
from idl_cli.assembly.requested import TeacherRequest
from idl_cli.data.dataset import Dataset
from idl_cli.data.loader import BatchLoader
from idl_cli.distributed.process import watch_signals
from idl_cli.reporting import TrainingReporter
from idl_cli.run import RunDirectory
from idl_cli.training.callbacks import Callbacks, EpochRecord, StepReport
from idl_cli.training.losses import make_loss
from idl_cli.training.settings import TrainerSettings
from idl_cli.training.trainer import Trainer


@dataclass(frozen=True)
class OneCycle:
    """How a network is trained without tuning: Adam under a one-cycle schedule.

    Args:
        epochs: passes over the training part.
        batch_size: of a step.
        lr: peak learning rate.
        seed: of the order of the batches.
    """

    epochs: int
    batch_size: int
    lr: float
    seed: int


def teacher_trainer(
    model: nn.Module,
    dataset: Dataset,
    compute: Compute,
    cycle: OneCycle,
    *,
    keep_sparsity: bool = False,
) -> Trainer:
    """Adam under a one-cycle schedule: good weights in few epochs, without tuning."""
    loader = BatchLoader(
        dataset.train,
        min(cycle.batch_size, len(dataset.train)),
        preprocessing=dataset.preprocessing,
        shuffle=True,
        seed=cycle.seed,
        augmentation=dataset.augmentation,
        device=compute.device,
        dtype=compute.dtype,
    )
    options = TrainerSettings(epochs=cycle.epochs, keep_sparsity=keep_sparsity)
    optimizer = registry.build(
        "optimizer",
        {"name": "adam", "lr": cycle.lr},
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


def train_teacher(model: nn.Module, dataset: Dataset, context: RunContext[TeacherRequest]) -> None:
    """Train a teacher to its end.

    Args:
        model: trained in place.
        dataset: to train on.
        context: with the directory in which its epochs are written down.
    """
    teacher = context.settings.teacher
    cycle = OneCycle(
        epochs=int(teacher["epochs"]),
        batch_size=int(teacher["batch_size"]),
        lr=float(teacher["lr"]),
        seed=context.settings.seed,
    )
    trainer = teacher_trainer(model, dataset, context.compute, cycle)
    reporting = context.console.training(
        epochs=trainer.settings.epochs, steps_per_epoch=trainer.steps_per_epoch
    )
    with reporting as reporter, watch_signals() as watch:
        trainer.callbacks = _Recorder(context.directory, reporter)
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
