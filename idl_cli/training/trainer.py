"""The gradient trainer: batch → equilibrium → loss → implicit gradient → step → constraint.

It knows neither files nor consoles nor configurations: it tells its callbacks what happens, and
its whole state is one nested value that continues a training to the bit, in mid-epoch too.

Several processes ("ranks") train one model by running the same trainer: each on its part of every
batch, all making the same steps and decisions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from idl_cli.data.loader import BatchLoader
from idl_cli.data.task import Task
from idl_cli.distributed.group import Group
from idl_cli.distributed.process import Interrupted
from idl_cli.equilibrium.statistics import SolveStatistics
from idl_cli.evaluation import evaluate
from idl_cli.models.base import TrainableModel
from idl_cli.training.callbacks import Callbacks, EpochRecord, StepReport
from idl_cli.training.consensus import Consensus
from idl_cli.training.convergence import single_warnings_off, warn_if_unconverged
from idl_cli.training.early_stopping import EarlyStopping
from idl_cli.training.epoch_totals import EpochTotals
from idl_cli.training.losses import SummedLoss
from idl_cli.training.progress import Clock, Progress, StopReason, TrainingResult
from idl_cli.training.recovery import NonFiniteRecovery
from idl_cli.training.rng_state import get_rng_state, set_rng_state
from idl_cli.training.robust.training import Robustness
from idl_cli.training.schedulers import Scheduler
from idl_cli.training.settings import TrainerSettings
from idl_cli.training.stepping import Batch, Stepper
from idl_cli.training.weight_average import WeightAverage


class Trainer:
    """Trains a model by gradient descent.

    Args:
        model: a ``TrainableModel``, or any module that maps inputs (b, *input_shape) to outputs
            (b, output_dim); of several ranks, the first one's weights are taken.
        task: what is predicted.
        train_loader: batches to train on.
        validation_loader: batches to choose the best epoch by, or None.
        optimizer: over the model's parameters.
        scheduler: of that optimiser; stepped after every optimiser step.
        loss: see ``losses.make_loss``.
        settings: see ``TrainerSettings``.
        callbacks: told what happens, on every rank.
        interrupted: asked between two steps; returns the number of the signal that asks to stop.
        group: of the ranks, whose loaders draw each its part of every batch; None for one process.
        robustness: what ``settings.robust`` asks for; see ``make_robustness``.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        task: Task,
        train_loader: BatchLoader,
        validation_loader: BatchLoader | None,
        optimizer: Optimizer,
        scheduler: Scheduler,
        loss: SummedLoss,
        settings: TrainerSettings,
        callbacks: Callbacks | None = None,
        interrupted: Callable[[], int | None] | None = None,
        group: Group | None = None,
        robustness: Robustness | None = None,
        lr_key: str = "optimizer.lr",
    ) -> None:
        self.model = model
        self.task = task
        self.train_loader = train_loader
        self.validation_loader = validation_loader
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.settings = settings
        self.callbacks = callbacks or Callbacks()
        self.progress = Progress()
        self.robustness = robustness
        figure = None if robustness is None else robustness.figure
        self.early_stopping = EarlyStopping(settings.early_stopping, task, figure)
        self.average = WeightAverage(model, settings.ema) if settings.ema else None
        self.recovery = NonFiniteRecovery(
            settings.on_nonfinite, model, optimizer, scheduler, self.average, lr_key=lr_key
        )
        self.group = Group.single() if group is None else group
        self.interrupted = interrupted or (lambda: None)
        self._consensus = Consensus(self.group, lambda: self.interrupted())
        self._stepper = Stepper(
            model,
            optimizer=optimizer,
            scheduler=scheduler,
            loss=loss,
            settings=settings,
            recovery=self.recovery,
            consensus=self._consensus,
            robustness=robustness,
        )
        self._statistics = _statistics_of(model)
        self._totals = EpochTotals(task, settings, self._statistics, self.group, figure)
        self._clock = Clock(self.progress)

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def evaluated_model(self) -> nn.Module:
        """The model that is validated and kept: that of the averaged weights where there is one."""
        return self.model if self.average is None else self.average.model

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        return math.ceil(len(self.train_loader) / self.settings.accumulate)

    # -- the loop ------------------------------------------------------------------------------

    def fit(self) -> TrainingResult:
        """Train until the epochs are done, patience is lost, or time is up.

        Raises:
            NonFiniteError: a loss or gradient was no number and ``on_nonfinite`` could not help.
            Interrupted: a signal came; the last checkpoint was saved first.
            UnsupportedModelError: a parameter receives no gradient.
        """
        self._clock = Clock(self.progress)
        self._consensus.start(self.settings.max_time)
        averaged = None if self.average is None else _statistics_of(self.average.model)
        with single_warnings_off(self._statistics), single_warnings_off(averaged):
            reason = self._ended()
            while reason is None:
                if self.progress.batch == 0:
                    self._begin_epoch()
                if self._train_epoch():
                    self._end_epoch()
                reason = self._ended()
        return TrainingResult(
            reason=reason,
            epochs=self.progress.epoch,
            steps=self.progress.step,
            seconds=self.progress.seconds,
            skipped_steps=self.recovery.skipped,
            best_epoch=self.early_stopping.best_epoch,
            best_metric=self.early_stopping.best,
            metric=self.early_stopping.metric,
        )

    def _ended(self) -> StopReason | None:
        if self.progress.epoch >= self.settings.epochs:
            return "epochs"
        if self.early_stopping.should_stop:
            return "early_stopping"
        return "max_time" if self._consensus.time_is_up else None

    def _begin_epoch(self) -> None:
        self._totals.reset()
        self.progress.epoch_seconds = self.progress.data_seconds = 0.0
        self.recovery.remember()

    def _train_epoch(self) -> bool:
        """Make the epoch's remaining steps; return False if time was up before its end."""
        progress = self.progress
        self.model.train()
        self.train_loader.set_epoch(progress.epoch)
        batches = self.train_loader.iterate(progress.batch)
        while group := self._draw(batches):
            self.step(group)
            progress.batch += len(group)
            progress.step += 1
            self._clock.read(in_epoch=True)
            self.callbacks.on_step(self._report())
            ends_early = progress.batch < len(self.train_loader) and self._consensus.time_is_up
            every = self.settings.checkpoint_every
            if ends_early or (every is not None and progress.step % every == 0):
                self._save("last")
            if ends_early:
                return False
            self._stop_if_interrupted()
        return True

    def _draw(self, batches: Iterator[Batch]) -> list[Batch]:
        started = time.perf_counter()
        group = list(islice(batches, self.settings.accumulate))
        self.progress.data_seconds += time.perf_counter() - started
        return group

    def step(self, group: Sequence[Batch]) -> None:
        """Make one optimiser step on a group of batches and take its figures into the epoch's."""
        where = f"epoch {self.progress.epoch + 1}, step {self.progress.step + 1}"
        result = self._stepper.step(group, where, self._passes)
        if result is None:
            return
        if self.average is not None:
            self.average.update(self.model)
        self.progress.lr = result.lr
        self._totals.add(result)

    @property
    def _passes(self) -> float:
        return self.progress.epoch + self.progress.batch / len(self.train_loader)

    # -- the end of an epoch -------------------------------------------------------------------

    def _end_epoch(self) -> None:
        progress = self.progress
        progress.epoch += 1
        progress.batch = 0
        records = [self._train_record()]
        improved = False
        if self.validation_loader is not None:
            figures = self._validate()
            records.append(self.record("validation", figures, self.evaluated_model))
            improved = self.early_stopping.update(figures, progress.epoch)
        self.callbacks.on_epoch(records)
        if improved:
            self._save("best")
        self._save("last")
        self._consensus.ask()
        self._stop_if_interrupted(saved=True)

    def _train_record(self) -> EpochRecord:
        figures = self._totals.figures()
        self._warn_if_unconverged(self.model, "training")
        if self.robustness is not None:
            stage = self.robustness.stage(self._passes)
            figures.update(epsilon=stage.epsilon, clean_weight=stage.clean_weight)
        seconds = self.progress.epoch_seconds
        figures |= {
            "seconds": seconds,
            "data_seconds": self.progress.data_seconds,
            "samples_per_second": self.train_loader.samples / seconds,
        }
        return self.record("train", figures)

    def _validate(self) -> dict[str, float]:
        assert self.validation_loader is not None
        model = self.evaluated_model
        for buffer in model.buffers():  # running statistics, of each rank's own samples so far
            self.group.broadcast_(buffer)
        figures = evaluate(model, self.validation_loader, self.task, group=self.group)
        figures |= self.robust_figures(self.validation_loader, model)
        self._warn_if_unconverged(model, "validation")
        return {**figures, "seconds": self._clock.read(in_epoch=False)}

    def robust_figures(
        self, loader: BatchLoader, model: nn.Module | None = None
    ) -> dict[str, float]:
        """Return the robust accuracy and ε of a part; nothing without a robust training.

        Args:
            loader: of the part.
            model: what is measured; None for the one that is trained.
        """
        if self.robustness is None:
            return {}
        return self.robustness.measure(model or self.model, loader, self.group)

    def record(
        self, split: str, figures: Mapping[str, float], model: nn.Module | None = None
    ) -> EpochRecord:
        """Return a row of ``metrics.jsonl``: figures of a part, and where the training stands.

        Args:
            split: the part.
            figures: of it.
            model: what was measured; None for the one that is trained.
        """
        model = model or self.model
        record: EpochRecord = {
            "step": self.progress.step,
            "epoch": self.progress.epoch,
            "split": split,
            **figures,
            "lr": self.progress.lr,
        }
        norm = model.inf_norm_A() if isinstance(model, TrainableModel) else None
        if norm is not None:
            record["inf_norm_A"] = norm
        return record

    def _warn_if_unconverged(self, model: nn.Module, part: str) -> None:
        warn_if_unconverged(_statistics_of(model), f"epoch {self.progress.epoch}, {part}")

    # -- state ---------------------------------------------------------------------------------

    def _stop_if_interrupted(self, *, saved: bool = False) -> None:
        number = self._consensus.signal
        if number is None:
            return
        if not saved:
            self._save("last")
        raise Interrupted(number)

    def _save(self, which: Literal["last", "best"]) -> None:
        self.callbacks.on_checkpoint(which, self.state_dict())

    def _report(self) -> StepReport:
        return StepReport(
            epoch=self.progress.epoch + 1,
            epochs=self.settings.epochs,
            batch=self.progress.batch,
            batches=len(self.train_loader),
            step=self.progress.step,
            loss=self._totals.mean_objective,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return everything that an exact continuation needs, as tensors and plain values.

        All ranks call this, and all get the same.
        """
        own = {"rng": get_rng_state(self._device), "epoch": self._totals.state_dict()}
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "early_stopping": self.early_stopping.state_dict(),
            "recovery": self.recovery.state_dict(),
            "progress": asdict(self.progress),
            "ranks": self.group.gather_objects(own),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state: the next step is the one that would have followed.

        As many ranks as there were continue to the bit. With another number the sums continue, and
        the generators of the ranks that there were; new ranks keep the generators they have.

        Raises:
            RuntimeError, ValueError, KeyError: the state is that of another model or optimiser.
        """
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.early_stopping.load_state_dict(state["early_stopping"])
        self.recovery.load_state_dict(state["recovery"])
        self.progress = Progress(**state["progress"])
        ranks = state["ranks"]
        self._totals.load_state_dicts([rank["epoch"] for rank in ranks])
        if self.group.rank < len(ranks):
            set_rng_state(ranks[self.group.rank]["rng"], self._device)


def _statistics_of(model: nn.Module) -> SolveStatistics | None:
    return model.solve_statistics if isinstance(model, TrainableModel) else None
