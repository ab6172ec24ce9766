"""What ``idl train`` says before it trains: what is to be done, and what it would cost."""

from __future__ import annotations

from dataclasses import asdict

from torch import nn

from idl_cli.commands.train.settings import TrainSettings
from idl_cli.data.dataset import Dataset
from idl_cli.distributed.group import Group
from idl_cli.models.parameter_count import parameter_count
from idl_cli.reporting import Reporter
from idl_cli.training.estimate import estimate
from idl_cli.training.trainer import Trainer


def plan(
    settings: TrainSettings,
    dataset: Dataset,
    model: nn.Module,
    trainer: Trainer,
) -> dict[str, object]:
    """Return what is going to be trained, as named values for people."""
    sizes = {
        "train": len(dataset.train),
        "validation": 0 if dataset.validation is None else len(dataset.validation),
        "test": len(dataset.test),
    }
    return {
        "model": str(model),
        "parameters": ", ".join(
            f"{name} {'×'.join(map(str, p.shape))}" for name, p in model.named_parameters()
        ),
        "parameter count": f"{parameter_count(model):,}",
        "data": f"{dataset.name}: " + ", ".join(f"{n} {part}" for part, n in sizes.items()),
        "steps": (
            f"{trainer.steps_per_epoch} an epoch (epochs: {trainer.settings.epochs}), batches of"
            f" {settings.trainer['batch_size']}"
        ),
        "optimizer": f"{settings.optimizer['name']}, lr {settings.optimizer['lr']:g},"
        f" {settings.scheduler['name']} schedule",
        "device": f"{_devices(trainer.group)}, {settings.dtype}, seed {settings.seed}",
    }


def dry_run(dataset: Dataset, trainer: Trainer, console: Reporter) -> dict[str, object]:
    """Estimate the training, say what it would cost, and return the command's result.

    All ranks call this.
    """
    parts = [dataset.train, dataset.test]
    parts += [] if dataset.validation is None else [dataset.validation]
    samples = sum(part.inputs.nbytes + part.targets.nbytes for part in parts)
    expected = estimate(trainer, data_bytes=samples)
    console.facts("estimate", expected.described())
    console.message("trainer.dry_run=true: nothing was trained")
    return {"metrics": {}, "dry_run": asdict(expected)}


def _devices(group: Group) -> str:
    if group.size == 1:
        return str(group.device)
    return f"{group.size} ranks on {group.device.type}, {group.backend}"
