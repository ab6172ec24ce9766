"""The gradient trainer: batch → equilibrium → loss → implicit gradient → step → constraint.

It knows neither files nor consoles nor configurations: it tells its callbacks what happens, and
its whole state is one nested value that continues a training to the bit, in mid-epoch too.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from idl_cli.data.loader import BatchLoader
from idl_cli.data.task import Task
from idl_cli.errors import ConvergenceWarning, UnsupportedModelError
from idl_cli.evaluation import evaluate
from idl_cli.evaluation.metrics import Metrics, make_metrics
from idl_cli.models.base import TrainableModel
from idl_cli.training.callbacks import Callbacks, EpochRecord, StepReport
from idl_cli.training.early_stopping import EarlyStopping
from idl_cli.training.interruption import TrainingInterrupted
from idl_cli.training.losses import SummedLoss
from idl_cli.training.randomness import get_rng_state, set_rng_state
from idl_cli.training.recovery import NonFiniteRecovery
from idl_cli.training.schedulers import Scheduler
from idl_cli.training.settings import TrainerSettings
from idl_cli.training.sparsity import SparsityMask

StopReason = Literal["epochs", "early_stopping", "max_time"]

Batch = tuple[Tensor, Tensor]


@dataclass
class Progress:
    """Where a training stands.

    Attributes:
        epoch: epochs completed.
        batch: batches of the present epoch that have been used.
        step: optimiser steps made.
        epoch_seconds: wall-clock seconds spent in the present epoch's training pass.
        seconds: wall-clock seconds spent in all passes so far, validation included.
        lr: learning rate of the last step.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    epoch_seconds: float = 0.0
    seconds: float = 0.0
    lr: float = 0.0


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended.

    Attributes:
        reason: what ended it.
        epochs: epochs completed.
        steps: optimiser steps made.
        seconds: wall-clock seconds, those before a resume included.
        skipped_steps: steps left out because of a non-finite loss or gradient.
        best_epoch: the epoch that the validation metric chose; None without a validation part.
        best_metric: that metric's value.
        metric: that metric's name.
    """

    reason: StopReason
    epochs: int
    steps: int
    seconds: float
    skipped_steps: int
    best_epoch: int | None
    best_metric: float | None
    metric: str


@dataclass
class _Clock:
    """Adds the time between two readings to the progress."""

    progress: Progress
    last: float = field(default_factory=time.perf_counter)

    def read(self, *, in_epoch: bool) -> None:
        now = time.perf_counter()
        self.progress.seconds += now - self.last
        if in_epoch:
            self.progress.epoch_seconds += now - self.last
        self.last = now


class Trainer:
    """Trains a model by gradient descent.

    Args:
        model: a ``TrainableModel``, or any module that maps inputs (b, *input_shape) to outputs
            (b, output_dim).
        task: what is predicted.
        train_loader: batches to train on.
        validation_loader: batches to choose the best epoch by, or None.
        optimizer: over the model's parameters.
        scheduler: of that optimiser; stepped after every optimiser step.
        loss: see ``losses.make_loss``.
        settings: see ``TrainerSettings``.
        callbacks: told what happens.
        interrupted: asked between two steps; returns the number of the signal that asks to stop.
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
        self.early_stopping = EarlyStopping(settings.early_stopping, task)
        self.recovery = NonFiniteRecovery(settings.on_nonfinite, model, optimizer, scheduler)
        self._loss = loss
        # The records' loss is the task's own, comparable between runs; what was minimised stands
        # beside it where it is something else.
        self._has_own_objective = bool(
            settings.label_smoothing
            or settings.class_weights is not None
            or (settings.loss == "mse" and task.kind == "classification")
        )
        self.interrupted = interrupted or (lambda: None)
        self._forward = torch.compile(model) if settings.compile else model
        self._sparsity = SparsityMask(model) if settings.keep_sparsity else None
        self._statistics = model.solve_statistics if isinstance(model, TrainableModel) else None
        self._metrics: Metrics = make_metrics(task)
        self._objective = [0.0, 0.0]  # Σ loss and Σ weight over the epoch so far
        self._gradients_checked = False
        self._clock = _Clock(self.progress)
        self._deadline = math.inf

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        return math.ceil(len(self.train_loader) / self.settings.accumulate)

    # -- the loop ------------------------------------------------------------------------------

    def fit(self) -> TrainingResult:
        """Train until the epochs are done, patience is lost, or time is up.

        Raises:
            NonFiniteError: a loss or gradient was no number and ``on_nonfinite`` could not help.
            TrainingInterrupted: a signal came; the last checkpoint was saved first.
            UnsupportedModelError: a parameter receives no gradient.
        """
        self._clock = _Clock(self.progress)
        if self.settings.max_time is not None:
            self._deadline = time.perf_counter() + self.settings.max_time
        with self._unconverged_reported_here():
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
        return "max_time" if time.perf_counter() >= self._deadline else None

    def _begin_epoch(self) -> None:
        self._metrics = make_metrics(self.task)
        self._objective = [0.0, 0.0]
        self.progress.epoch_seconds = 0.0
        if self._statistics is not None:
            self._statistics.reset()
        self.recovery.remember()

    def _train_epoch(self) -> bool:
        """Make the epoch's remaining steps; return False if time was up before its end."""
        progress = self.progress
        self.model.train()
        self.train_loader.set_epoch(progress.epoch)
        batches = self.train_loader.iterate(progress.batch)
        while group := list(islice(batches, self.settings.accumulate)):
            self.step(group)
            progress.batch += len(group)
            progress.step += 1
            self._clock.read(in_epoch=True)
            self.callbacks.on_step(self._report())
            ends_early = (
                progress.batch < len(self.train_loader) and time.perf_counter() >= self._deadline
            )
            every = self.settings.checkpoint_every
            if ends_early or (every is not None and progress.step % every == 0):
                self._save("last")
            if ends_early:
                return False
            self._stop_if_interrupted()
        return True

    def step(self, group: Sequence[Batch]) -> None:
        """Make one optimiser step on the exact mean loss over all samples of the group."""
        self.optimizer.zero_grad(set_to_none=True)
        total, weight = 0.0, 0.0
        outputs: list[tuple[Tensor, Tensor]] = []
        for inputs, targets in group:
            with self._autocast(inputs.device):
                predicted = self._forward(inputs)
            predicted = predicted.to(inputs.dtype)
            batch_loss, batch_weight = self._loss(predicted, targets)
            if not torch.isfinite(batch_loss):
                self._nonfinite(f"loss is {batch_loss.item()}")
                return
            batch_loss.backward()  # type: ignore[no-untyped-call]
            total += batch_loss.item()
            weight += batch_weight.item()
            outputs.append((predicted.detach(), targets))
        self._check_gradients()
        norm = self._finish_gradients(weight)
        if not math.isfinite(norm):
            self._nonfinite(f"gradient norm is {norm}")
            return
        self.progress.lr = self.scheduler.lr
        self.optimizer.step()
        self.scheduler.step()
        self._constrain()
        self.recovery.succeeded()
        self._objective[0] += total
        self._objective[1] += weight
        for predicted, targets in outputs:
            self._metrics.update(predicted, targets)

    def _finish_gradients(self, weight: float) -> float:
        """Turn the gradient of the sum into that of the mean, mask it, clip it; return its norm."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        # All weights zero: only samples of classes without weight, and a zero gradient.
        torch._foreach_mul_(gradients, 1 / weight if weight else 0.0)
        if self._sparsity is not None:
            self._sparsity.apply_to_gradients()
        limit = math.inf if self.settings.clip_norm is None else self.settings.clip_norm
        return nn.utils.clip_grad_norm_(self.model.parameters(), limit).item()

    @torch.no_grad()
    def _constrain(self) -> None:
        if isinstance(self.model, TrainableModel):
            self.model.constrain_()
        if self._sparsity is not None:
            self._sparsity.apply_to_parameters()

    def _nonfinite(self, what: str) -> None:
        where = f"epoch {self.progress.epoch + 1}, step {self.progress.step + 1}"
        self.optimizer.zero_grad(set_to_none=True)
        self.recovery.failed(what, where)

    def _check_gradients(self) -> None:
        if self._gradients_checked:
            return
        without = [
            name for name, p in self.model.named_parameters() if p.requires_grad and p.grad is None
        ]
        if without:
            raise UnsupportedModelError(
                f"no gradient reaches {', '.join(without)}: the model's output does not depend on"
                " them, or a detach() or no_grad() cuts them off; freeze them with"
                " requires_grad_(False) if that is meant"
            )
        self._gradients_checked = True

    def _autocast(self, device: torch.device) -> AbstractContextManager[object]:
        if self.settings.precision == "bf16":
            return torch.autocast(device.type, dtype=torch.bfloat16)
        return nullcontext()

    # -- the end of an epoch -------------------------------------------------------------------

    def _end_epoch(self) -> None:
        progress = self.progress
        progress.epoch += 1
        progress.batch = 0
        records = [self._train_record()]
        improved = False
        if self.validation_loader is not None:
            figures = self._validate()
            records.append(self.record("validation", figures))
            improved = self.early_stopping.update(figures, progress.epoch)
        self.callbacks.on_epoch(records)
        if improved:
            self._save("best")
        self._save("last")
        self._stop_if_interrupted(saved=True)

    def _train_record(self) -> EpochRecord:
        solved = {} if self._statistics is None else self._statistics.summary()
        # No finite step, or none with weight: nothing was added to the metrics.
        metrics = self._metrics.compute() if self._objective[1] else {"loss": math.nan}
        if self._has_own_objective:
            metrics["objective"] = self._mean_objective()
        self._warn_if_unconverged("training")
        seconds = self.progress.epoch_seconds
        return self.record("train", {**metrics, **solved, "seconds": seconds})

    def _validate(self) -> dict[str, float]:
        assert self.validation_loader is not None
        figures = evaluate(self.model, self.validation_loader, self.task)
        self._warn_if_unconverged("validation")
        before = self.progress.seconds
        self._clock.read(in_epoch=False)
        return {**figures, "seconds": self.progress.seconds - before}

    def record(self, split: str, figures: Mapping[str, float]) -> EpochRecord:
        """Return a row of ``metrics.jsonl``: figures of a part, and where the training stands."""
        record: EpochRecord = {
            "step": self.progress.step,
            "epoch": self.progress.epoch,
            "split": split,
            **figures,
            "lr": self.progress.lr,
        }
        norm = self.model.inf_norm_A() if isinstance(self.model, TrainableModel) else None
        if norm is not None:
            record["inf_norm_A"] = norm
        return record

    @contextmanager
    def _unconverged_reported_here(self) -> Iterator[None]:
        """Keep the statistics from warning of single solves: the trainer does once a pass."""
        if self._statistics is None:
            yield
            return
        before, self._statistics.warn = self._statistics.warn, False
        try:
            yield
        finally:
            self._statistics.warn = before

    def _warn_if_unconverged(self, part: str) -> None:
        if self._statistics is None:
            return
        kinds = {"forward": "equilibria", "backward": "adjoint states (gradients)"}
        for direction, counts in self._statistics.state_dict().items():
            failed, samples = int(counts["unconverged"]), int(counts["samples"])
            if failed:
                warnings.warn(
                    f"epoch {self.progress.epoch}, {part}: {failed} of {samples} {kinds[direction]}"
                    f" did not converge ({failed / samples:.2%}; largest residual"
                    f" {counts['residual_max']:.2g}); raise model.{direction}.max_iter, or lower"
                    " model.kappa or optimizer.lr",
                    ConvergenceWarning,
                    stacklevel=2,
                )

    # -- state ---------------------------------------------------------------------------------

    def _stop_if_interrupted(self, *, saved: bool = False) -> None:
        number = self.interrupted()
        if number is None:
            return
        if not saved:
            self._save("last")
        raise TrainingInterrupted(number)

    def _save(self, which: Literal["last", "best"]) -> None:
        self.callbacks.on_checkpoint(which, self.state_dict())

    def _report(self) -> StepReport:
        return StepReport(
            epoch=self.progress.epoch + 1,
            epochs=self.settings.epochs,
            batch=self.progress.batch,
            batches=len(self.train_loader),
            step=self.progress.step,
            loss=self._mean_objective(),
        )

    def _mean_objective(self) -> float:
        total, weight = self._objective
        return total / weight if weight else math.nan

    def state_dict(self) -> dict[str, Any]:
        """Return everything that an exact continuation needs, as tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "early_stopping": self.early_stopping.state_dict(),
            "recovery": self.recovery.state_dict(),
            "rng": get_rng_state(),
            "progress": asdict(self.progress),
            "epoch": {
                "objective": list(self._objective),
                "metrics": self._metrics.state_dict(),
                "statistics": None if self._statistics is None else self._statistics.state_dict(),
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state: the next step is the one that would have followed.

        Raises:
            RuntimeError, ValueError, KeyError: the state is that of another model or optimiser.
        """
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.early_stopping.load_state_dict(state["early_stopping"])
        self.recovery.load_state_dict(state["recovery"])
        self.progress = Progress(**state["progress"])
        self._objective = list(state["epoch"]["objective"])
        self._metrics = make_metrics(self.task)
        self._metrics.load_state_dict(state["epoch"]["metrics"])
        if self._statistics is not None:
            self._statistics.load_state_dict(state["epoch"]["statistics"])
        set_rng_state(state["rng"])
