"""Task metrics summed sample by sample, so that they do not depend on how samples are batched.

Sums are kept in float64 on the device of the outputs and read once at the end.
"""

from __future__ import annotations

import math
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

_NONFINITE = "nonfinite_outputs"
_LARGE_MAPE = 100.0  # from here on a few targets near zero decide
# Top-5 accuracy says something only where five classes are a small part of all.
_TOP5_FROM_CLASSES = 20


class Metrics(Protocol):
    """Accumulates the metrics of one pass over some samples."""

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch: outputs (b, q) and its targets."""
        ...

    def compute(self) -> dict[str, float]:
        """Return the metrics over all samples added so far.

        ``nonfinite_outputs``, a number of samples, is among them where there are any.
        """
        ...

    def remarks(self) -> list[str]:
        """Say which of the metrics mean less than they seem to, one sentence each."""
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


def predicted_classes(logits: Tensor) -> Tensor:
    """Return the class of every sample (b,), int64; -1, which is no class, where there is none.

    It is the lowest index of the largest logit (b, K). A sample with a NaN or +∞ among its logits
    has none, since their softmax is not defined.
    """
    undefined = (logits.isnan() | logits.isposinf()).any(dim=1)
    return logits.argmax(dim=1).masked_fill(undefined, -1)


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
    - ``top5_accuracy``: share whose target is among the five classes of the largest logits (of
      equal ones those of the lowest indices); from 20 classes on.
    - ``nonfinite_outputs``: samples with a NaN or +∞ among their logits, which are never right.
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
        classes = predicted_classes(logits)
        _add(self._sums, "loss", losses)
        _add(self._sums, "accuracy", (classes == targets).sum())
        _add(self._sums, _NONFINITE, (classes < 0).sum())
        if self._classes >= _TOP5_FROM_CLASSES:
            own, index = targets[:, None], torch.arange(self._classes, device=targets.device)
            largest = logits.gather(1, own)
            before = (logits > largest) | ((logits == largest) & (index < own))
            _add(self._sums, "top5_accuracy", ((before.sum(dim=1) < 5) & (classes >= 0)).sum())

    def compute(self) -> dict[str, float]:
        """Return the means over all samples."""
        assert self._samples > 0, "nothing was added"
        means = {name: total.item() / self._samples for name, total in self._sums.items()}
        means.pop(_NONFINITE, None)
        return {**means, **_counted(self._sums)}

    def remarks(self) -> list[str]:
        """Say which of the metrics mean less than they seem to, one sentence each."""
        return _nonfinite_remarks(self._sums, self._samples, "count as wrong")

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
    - ``mape``: mean of |y - ŷ| / max(|y|, 2⁻⁵²): a fraction, not a percentage. Targets near zero
      make it as large as they are small; ``remarks`` says so.
    - ``r2``: mean over outputs of 1 - Σ(y - ŷ)² / Σ(y - mean y)²; an output whose targets are all
      equal (but for rounding) counts 1 when it is predicted exactly and 0 otherwise. NaN for a
      single sample, which has no spread, and where the squares of targets are beyond float64.
    - ``nonfinite_outputs``: samples with an output that is NaN or infinite.

    All are in the targets' own unit and summed in float64; errors of scaled targets are taken
    before the mean is added again, which would cost digits. A loss that is given sees outputs and
    targets as they come, in the wider of their two dtypes.

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
        y, error = targets.double(), targets.double() - outputs.double()
        if self._scaling is not None:
            y, error = self._scaling.unscale(y), self._scaling.unscale_difference(error)
        _add(self._sums, "squares", error.square().sum(dim=0))
        _add(self._sums, "absolute", error.abs().sum())
        floor = torch.finfo(torch.float64).eps
        _add(self._sums, "relative", (error.abs() / y.abs().clamp(min=floor)).sum())
        if self._loss is not None:
            wider = torch.promote_types(outputs.dtype, targets.dtype)
            losses = self._loss(outputs.to(wider), targets.to(wider))
            _add(self._sums, "loss", _summed(losses, len(targets)))
        _add(self._sums, _NONFINITE, (~outputs.isfinite().all(dim=1)).sum())
        _add(self._sums, "near_zero", (y.abs() <= floor).sum())
        self._samples += len(y)
        spread = Spread.of(y)
        self._spread = spread if self._spread is None else self._spread.merged(spread)

    def compute(self) -> dict[str, float]:
        """Return the metrics over all samples."""
        assert self._spread is not None, "nothing was added"
        squares, spread = self._sums["squares"], self._spread
        entries = self._samples * self._outputs
        r2 = torch.where(
            spread.constant,
            (squares <= spread.rounding).to(squares.dtype),
            1 - squares / spread.deviations,
        ).masked_fill(spread.beyond_range, math.nan)
        mse = squares.sum().item() / entries
        return {
            "loss": mse if self._loss is None else self._sums["loss"].item() / self._samples,
            "r2": r2.mean().item() if self._samples > 1 else math.nan,
            "mse": mse,
            "mae": self._sums["absolute"].item() / entries,
            "mape": self._sums["relative"].item() / entries,
            **_counted(self._sums),
        }

    def remarks(self) -> list[str]:
        """Say which of the metrics mean less than they seem to, one sentence each."""
        assert self._spread is not None, "nothing was added"
        said = _nonfinite_remarks(self._sums, self._samples, "leave no squared error, no R²")
        if self._samples == 1:
            said.append("r2 is nan: one sample has no spread to compare an error with")
        elif bool(self._spread.beyond_range.any()):
            said.append(
                "r2 is nan: the squares of these targets are beyond float64 (1e±308); choose"
                " another unit"
            )
        elif bool(self._spread.constant.any()):
            said.append(
                "r2: targets of an output are all equal; it counts 0 where they are not predicted"
                " exactly, however small the error (see mse)"
            )
        entries = self._samples * self._outputs
        near_zero = "near_zero" in self._sums and bool(self._sums["near_zero"])
        if near_zero or self._sums["relative"].item() / entries > _LARGE_MAPE:
            said.append(
                "mape: some targets are zero or nearly, and an error relative to them has no"
                " meaning; see mae"
            )
        if not said and not all(map(math.isfinite, self.compute().values())):
            said.append("the squared errors exceed the range of float64; choose a larger unit")
        return said

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


def _counted(sums: Mapping[str, Tensor]) -> dict[str, float]:
    """The number of samples without a finite output, where there are any."""
    count = sums[_NONFINITE].item() if _NONFINITE in sums else 0.0
    return {_NONFINITE: count} if count else {}


def _nonfinite_remarks(sums: Mapping[str, Tensor], samples: int, consequence: str) -> list[str]:
    return [
        f"{int(count):,} of {samples:,} outputs are not finite, as of a model that has diverged;"
        f" they {consequence}"
        for count in _counted(sums).values()
    ]


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
