"""Task metrics summed sample by sample, so that they do not depend on how samples are batched.

Sums are kept in float64 on the device of the outputs and read once at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from idl_cli.data.scaling import TargetScaling
from idl_cli.data.task import Task
from idl_cli.errors import ShapeError
from idl_cli.evaluation.spread import Spread

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

    def merge(self, state: Mapping[str, object]) -> None:
        """Add the sums over other samples, as their ``state_dict`` returned them."""
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
    return RegressionMetrics(task.output_dim, loss, task.target_scaling)


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
        self._samples, self._sums = 0, {}
        self.merge(state)

    def merge(self, state: Mapping[str, object]) -> None:
        """Add the sums over other samples, as their ``state_dict`` returned them."""
        self._samples += _merge_sums(self._sums, state)


class RegressionMetrics:
    """Metrics of outputs ŷ (b, q) against real targets y (b, q).

    - ``loss``: the same as ``mse`` unless a loss is given.
    - ``mse``: mean of (y - ŷ)² over samples and outputs.
    - ``mae``: mean of |y - ŷ|.
    - ``mape``: mean of |y - ŷ| / max(|y|, 2⁻⁵²): a fraction, not a percentage.
    - ``r2``: mean over outputs of 1 - Σ(y - ŷ)² / Σ(y - mean y)²; an output whose targets are all
      equal counts 1 when it is predicted exactly and 0 otherwise.

    Scaled targets are brought back to their own unit first, outputs likewise, both in float64; a
    loss that is given sees them as they come.

    These are the definitions of scikit-learn's ``mean_squared_error``, ``mean_absolute_error``,
    ``mean_absolute_percentage_error`` and ``r2_score``.
    """

    def __init__(
        self, outputs: int, loss: Loss | None = None, scaling: TargetScaling | None = None
    ) -> None:
        self._outputs = outputs
        self._loss = loss
        self._scaling = scaling
        self._samples = 0
        self._sums: dict[str, Tensor] = {}
        self._spread: Spread | None = None

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch of outputs (b, q) and targets (b, q)."""
        _check_outputs(outputs, (len(targets), self._outputs))
        _check_outputs(targets, (len(targets), self._outputs))
        y, predicted = self._in_own_unit(targets), self._in_own_unit(outputs)
        error = y - predicted
        _add(self._sums, "squares", error.square().sum(dim=0))
        _add(self._sums, "absolute", error.abs().sum())
        floor = torch.finfo(torch.float64).eps
        _add(self._sums, "relative", (error.abs() / y.abs().clamp(min=floor)).sum())
        if self._loss is not None:
            _add(self._sums, "loss", _summed(self._loss(outputs, targets), len(targets)))
        self._samples += len(y)
        spread = Spread.of(y)
        self._spread = spread if self._spread is None else self._spread.merged(spread)

    def _in_own_unit(self, values: Tensor) -> Tensor:
        return values.double() if self._scaling is None else self._scaling.unscale(values)

    def compute(self) -> dict[str, float]:
        """Return the metrics over all samples."""
        assert self._spread is not None, "nothing was added"
        squares, spread = self._sums["squares"], self._spread
        entries = self._samples * self._outputs
        r2 = torch.where(
            spread.smallest == spread.largest,  # exact, where their deviations may not be zero
            (squares == 0).to(squares.dtype),
            1 - squares / spread.deviations,
        )
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
            "spread": None if self._spread is None else self._spread.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Go on from the sums that ``state_dict`` returned."""
        self._samples, self._sums, self._spread = 0, {}, None
        self.merge(state)

    def merge(self, state: Mapping[str, object]) -> None:
        """Add the sums over other samples, as their ``state_dict`` returned them."""
        spread = state["spread"]
        assert spread is None or isinstance(spread, Mapping)
        self._samples += _merge_sums(self._sums, state)
        if spread is not None:
            other = Spread.from_state_dict(spread)
            self._spread = other if self._spread is None else self._spread.merged(other)


def _merge_sums(sums: dict[str, Tensor], state: Mapping[str, object]) -> int:
    """Add the sums of a state and return how many samples they are over."""
    samples, others = state["samples"], state["sums"]
    assert isinstance(samples, int)
    assert isinstance(others, Mapping)
    for name, total in others.items():
        _add(sums, name, total)
    return samples


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
    value = value.double()
    # Sums read from a checkpoint are on the CPU at first.
    sums[name] = sums[name].to(value.device) + value if name in sums else value


def _summed(losses: Tensor, samples: int) -> Tensor:
    return losses.double() * samples if losses.ndim == 0 else losses.double().sum()


def _check_outputs(values: Tensor, shape: tuple[int, int]) -> None:
    if tuple(values.shape) != shape:
        raise ShapeError(f"a batch of shape {tuple(values.shape)}, where {shape} is needed")
