"""Task metrics summed sample by sample, so that they do not depend on how samples are batched.

Sums are kept in float64 on the device of the outputs and read once at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from idl_cli.data.task import Task
from idl_cli.errors import ShapeError

Loss = Callable[[Tensor, Tensor], Tensor]

# Top-5 accuracy says something only where five classes are a small part of all.
_TOP5_FROM_CLASSES = 20


class Metrics(Protocol):
    """Accumulates the metrics of one pass over some samples."""

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch: outputs (b, q) and its targets."""
        ...

    def compute(self) -> dict[str, float]:
        """Return the metrics over all samples added so far."""
        ...

    def state_dict(self) -> dict[str, object]:
        """Return the sums, from which accumulation can go on exactly."""
        ...

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Go on from the sums that ``state_dict`` returned."""
        ...


def make_metrics(task: Task, loss: Loss | None = None) -> Metrics:
    """Return the metrics of a task.

    Args:
        task: the task.
        loss: what to report as ``loss`` instead of the task's own; given outputs (b, q) and
            targets it returns one loss a sample (b,), or their plain mean (). (A mean that weighs
            samples unequally, as by class, cannot be recombined: return the losses instead.)
    """
    if task.kind == "classification":
        return ClassificationMetrics(task.output_dim, loss)
    return RegressionMetrics(task.output_dim, loss)


class ClassificationMetrics:
    """Metrics of logits (b, K) against class indices (b,).

    - ``loss``: mean of -log softmax(logits)[target], natural logarithm.
    - ``accuracy``: share of samples whose largest logit is the target's (the lowest index of equal
      ones).
    - ``top5_accuracy``: share with fewer than five logits above the target's; from 20 classes on.
    """

    def __init__(self, classes: int, loss: Loss | None = None) -> None:
        self._classes = classes
        self._loss = loss
        self._samples = 0
        self._sums: dict[str, Tensor] = {}

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch of logits (b, K) and class indices (b,)."""
        _check_outputs(outputs, (len(targets), self._classes))
        logits = outputs.double()
        losses = (
            functional.cross_entropy(logits, targets, reduction="sum")
            if self._loss is None
            else _summed(self._loss(outputs, targets), len(targets))
        )
        self._samples += len(targets)
        _add(self._sums, "loss", losses)
        _add(self._sums, "accuracy", (logits.argmax(dim=1) == targets).sum())
        if self._classes >= _TOP5_FROM_CLASSES:
            own = logits.gather(1, targets[:, None])
            # Written so that a NaN logit counts as wrong, as it does for the accuracy.
            below = (logits <= own).sum(dim=1)
            _add(self._sums, "top5_accuracy", (self._classes - below < 5).sum())

    def compute(self) -> dict[str, float]:
        """Return the means over all samples."""
        assert self._samples > 0, "nothing was added"
        return {name: total.item() / self._samples for name, total in self._sums.items()}

    def state_dict(self) -> dict[str, object]:
        """Return the sums, from which accumulation can go on exactly."""
        return {"samples": self._samples, "sums": dict(self._sums)}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Go on from the sums that ``state_dict`` returned."""
        samples, sums = state["samples"], state["sums"]
        assert isinstance(samples, int)
        assert isinstance(sums, Mapping)
        self._samples, self._sums = samples, dict(sums)


class RegressionMetrics:
    """Metrics of outputs ŷ (b, q) against real targets y (b, q).

    - ``loss``: the same as ``mse`` unless a loss is given.
    - ``mse``: mean of (y - ŷ)² over samples and outputs.
    - ``mae``: mean of |y - ŷ|.
    - ``mape``: mean of |y - ŷ| / max(|y|, 2⁻⁵²): a fraction, not a percentage.
    - ``r2``: mean over outputs of 1 - Σ(y - ŷ)² / Σ(y - mean y)²; an output whose targets are all
      equal counts 1 when it is predicted exactly and 0 otherwise.

    These are the definitions of scikit-learn's ``mean_squared_error``, ``mean_absolute_error``,
    ``mean_absolute_percentage_error`` and ``r2_score``.
    """

    def __init__(self, outputs: int, loss: Loss | None = None) -> None:
        self._outputs = outputs
        self._loss = loss
        self._samples = 0
        self._sums: dict[str, Tensor] = {}
        self._mean: Tensor | None = None
        self._deviations: Tensor | None = None

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch of outputs (b, q) and targets (b, q)."""
        _check_outputs(outputs, (len(targets), self._outputs))
        _check_outputs(targets, (len(targets), self._outputs))
        y = targets.double()
        error = y - outputs.double()
        _add(self._sums, "squares", error.square().sum(dim=0))
        _add(self._sums, "absolute", error.abs().sum())
        floor = torch.finfo(torch.float64).eps
        _add(self._sums, "relative", (error.abs() / y.abs().clamp(min=floor)).sum())
        if self._loss is not None:
            _add(self._sums, "loss", _summed(self._loss(outputs, targets), len(targets)))
        self._add_deviations(y)

    def _add_deviations(self, y: Tensor) -> None:
        """Merge the mean and squared deviations of a batch (Chan, Golub, LeVeque 1979).

        Σy² - (Σy)²/m would lose all digits where the mean is large beside the spread.
        """
        mean = y.mean(dim=0)
        deviations = (y - mean).square().sum(dim=0)
        if self._mean is None or self._deviations is None:
            self._mean, self._deviations, self._samples = mean, deviations, len(y)
            return
        total = self._samples + len(y)
        shift = mean - self._mean
        self._deviations += deviations + shift.square() * (self._samples * len(y) / total)
        self._mean += shift * (len(y) / total)
        self._samples = total

    def compute(self) -> dict[str, float]:
        """Return the metrics over all samples."""
        assert self._deviations is not None, "nothing was added"
        squares, deviations = self._sums["squares"], self._deviations
        entries = self._samples * self._outputs
        r2 = torch.where(deviations > 0, 1 - squares / deviations, (squares == 0).to(squares.dtype))
        mse = squares.sum().item() / entries
        return {
            "loss": mse if self._loss is None else self._sums["loss"].item() / self._samples,
            "r2": r2.mean().item(),
            "mse": mse,
            "mae": self._sums["absolute"].item() / entries,
            "mape": self._sums["relative"].item() / entries,
        }

    def state_dict(self) -> dict[str, object]:
        """Return the sums, from which accumulation can go on exactly."""
        return {
            "samples": self._samples,
            "sums": dict(self._sums),
            "mean": self._mean,
            "deviations": self._deviations,
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Go on from the sums that ``state_dict`` returned."""
        samples, sums = state["samples"], state["sums"]
        mean, deviations = state["mean"], state["deviations"]
        assert isinstance(samples, int)
        assert isinstance(sums, Mapping)
        assert mean is None or isinstance(mean, Tensor)
        assert deviations is None or isinstance(deviations, Tensor)
        self._samples, self._sums = samples, dict(sums)
        self._mean, self._deviations = mean, deviations


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
    value = value.double()
    sums[name] = sums[name] + value if name in sums else value


def _summed(losses: Tensor, samples: int) -> Tensor:
    return losses.double() * samples if losses.ndim == 0 else losses.double().sum()


def _check_outputs(values: Tensor, shape: tuple[int, int]) -> None:
    if tuple(values.shape) != shape:
        raise ShapeError(f"a batch of shape {tuple(values.shape)}, where {shape} is needed")
