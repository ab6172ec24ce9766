"""Training on two processes beside one: samples a second, and the losses of an epoch.

Implicit models of 100 states, with batches of 128 and 1,024 samples in all, and of 400 states, with
1,024, on 8,192 drawn samples of 784 features and ten classes, trained with adam by
``idl_cli.training.trainer.Trainer`` as ``idl train`` does. Every process is started by the launcher
that ``trainer.devices`` uses and has one thread; messages go by gloo over loopback. One process is
wrapped in nothing: it is what ``idl train`` is without ``trainer.devices``.

The speed is that of the median step, which a busy moment of the machine does not reach. The losses
of all steps are compared too: at the same batches they agree to rounding.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from idl_cli.data.loader import BatchLoader
from idl_cli.data.preprocessing import Preprocessing
from idl_cli.data.split import Split
from idl_cli.data.task import Task
from idl_cli.distributed.group import Group
from idl_cli.distributed.join import joined
from idl_cli.distributed.launch import launch
from idl_cli.models.implicit import ImplicitModel
from idl_cli.training.callbacks import Callbacks, StepReport
from idl_cli.training.losses import make_loss
from idl_cli.training.optimizers import adam
from idl_cli.training.schedulers import constant
from idl_cli.training.settings import TrainerSettings
from idl_cli.training.trainer import Trainer

RANKS = (1, 2)
SAMPLES, FEATURES, CLASSES = 8192, 784, 10


@dataclass(frozen=True)
class Setting:
    """What is trained: states, samples a batch, and epochs enough for a median."""

    hidden_dim: int
    batch_size: int
    epochs: int


SETTINGS = (Setting(100, 128, 3), Setting(100, 1024, 12), Setting(400, 1024, 3))


@dataclass
class StepClock(Callbacks):
    """Keeps when each step ended, and the mean loss of the epoch up to it."""

    ends: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def on_step(self, report: StepReport) -> None:
        """Take the time."""
        self.ends.append(time.perf_counter())
        self.losses.append(report.loss)


def run(root: Path | None = None) -> dict[str, object]:
    """Measure and print.

    Args:
        root: not used; the data are drawn.

    Returns:
        For each setting the samples a second of one and two ranks, their ratio, and the largest
        difference of a loss.
    """
    rows = []
    for setting in SETTINGS:
        found = {ranks: _measured(ranks, setting) for ranks in RANKS}
        speeds = {ranks: setting.batch_size / seconds for ranks, (seconds, _) in found.items()}
        differences = (abs(one - two) for one, two in zip(found[1][1], found[2][1], strict=True))
        row = {
            "hidden_dim": setting.hidden_dim,
            "batch_size": setting.batch_size,
            **{f"samples_per_second_{ranks}": speed for ranks, speed in speeds.items()},
            "ratio": speeds[2] / speeds[1],
            "largest_loss_difference": max(differences),
        }
        rows.append(row)
        print(
            f"{setting.hidden_dim} states, batch {setting.batch_size}: 1 rank {speeds[1]:,.0f} "
            f"samples/s   2 ranks {speeds[2]:,.0f}"
            f"   ratio {row['ratio']:.2f}   losses differ by {row['largest_loss_difference']:.1e}",
            flush=True,
        )
    return {"threads_per_rank": 1, "rows": rows}


def _measured(ranks: int, setting: Setting) -> tuple[float, list[float]]:
    """Return the seconds of the median step, and the losses."""
    outcome = launch(train, [setting] * ranks, threads=1)
    if outcome.cause is not None:
        raise RuntimeError(outcome.cause.sentence)
    clock: StepClock = outcome.result
    seconds = [end - start for start, end in zip(clock.ends, clock.ends[1:], strict=False)]
    return statistics.median(seconds), clock.losses


def train(setting: Setting) -> StepClock:
    """Train on a rank and return its clock."""
    torch.set_num_threads(1)
    with joined("cpu") as group:
        trainer = _trainer(setting, group)
        trainer.callbacks = clock = StepClock()
        trainer.fit()
    return clock


def _trainer(setting: Setting, group: Group) -> Trainer:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(SAMPLES, FEATURES, generator=generator)
    scores = (inputs - 0.5) @ torch.randn(FEATURES, CLASSES, generator=generator)
    task = Task("classification", (FEATURES,), CLASSES)
    loader = BatchLoader(
        Split(inputs, scores.argmax(dim=1)),
        setting.batch_size,
        preprocessing=Preprocessing("none", (FEATURES,)),
        shuffle=True,
        seed=0,
        rank=group.rank,
        ranks=group.size,
    )
    torch.manual_seed(0)
    model = ImplicitModel(FEATURES, CLASSES, setting.hidden_dim)
    optimizer = adam(model.parameters())
    settings = TrainerSettings(epochs=setting.epochs)
    steps = math.ceil(SAMPLES / setting.batch_size)
    return Trainer(
        model,
        task=task,
        train_loader=loader,
        validation_loader=None,
        optimizer=optimizer,
        scheduler=constant(optimizer, settings.epochs * steps, steps),
        loss=make_loss(task),
        settings=settings,
        group=group,
    )
