"""How the gradient trainer trains: what its constructor takes and the configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from idl_cli.config.arguments import check_ranges
from idl_cli.config.fields import (
    AT_LEAST_ONE,
    FINITE_NON_NEGATIVE,
    FRACTION,
    LENGTH,
    NON_NEGATIVE,
    POSITIVE,
    RECORD,
)
from idl_cli.training.robust.settings import PerturbationSettings, RobustName

OnNonFinite = Literal["stop", "skip", "rollback"]
Precision = Literal["fp32", "bf16"]
LossName = Literal["auto", "cross_entropy", "mse"]
ClassWeights = Literal["balanced"] | tuple[Annotated[float, NON_NEGATIVE], ...] | None
MetricName = Literal[
    "auto", "accuracy", "loss", "r2", "mse", "certified_accuracy", "attacked_accuracy"
]


@dataclass(frozen=True)
class EarlyStoppingSettings:
    """When to stop for lack of progress on the validation part.

    Args:
        patience: epochs without improvement after which training stops; None never stops.
        min_delta: by how much the metric must improve to count, in its own unit.
        metric: what is watched, and what the best checkpoint is chosen by. ``auto``: accuracy of a
            classifier, under a robust training its certified or attacked one; loss of a regression.
    """

    patience: Annotated[int, AT_LEAST_ONE] | None = None
    min_delta: Annotated[float, NON_NEGATIVE] = 0.0
    metric: MetricName = "auto"

    def __post_init__(self) -> None:
        check_ranges(EarlyStoppingSettings, self)


@dataclass(frozen=True)
class TrainerSettings:
    """How the gradient trainer trains.

    Args:
        epochs: passes over the training part.
        loss: ``auto`` takes cross-entropy for a classification and mean squared error for a
            regression.
        label_smoothing: share of the target's probability spread evenly over all classes.
        class_weights: weight of each class in the loss; ``balanced``: inversely proportional to
            its frequency in the training part.
        mixup: α of the Beta distribution of the shares in which training samples are mixed in
            pairs; 0 mixes none; see ``data.mixing``.
        cutmix: the same for rectangles of one image put in another; with both, half of the samples
            have either.
        clip_norm: largest Euclidean norm of the whole gradient; None does not clip.
        accumulate: batches whose gradients make one optimiser step.
        ema: decay a step of an exponential moving average of the weights, which is then what is
            validated, chosen as the best and kept: see ``WeightAverage``; 0 keeps the weights.
        precision: ``bf16`` computes outside the equilibrium in bfloat16 by autocast; weights,
            optimiser and equilibrium stay as they are.
        compile: run the model through ``torch.compile``.
        on_nonfinite: what to do when a loss or gradient is NaN or infinite: ``stop`` with an
            error, ``skip`` the step, or ``rollback`` to the last epoch's weights and go on with
            half the learning rate.
        max_time: seconds after which this process stops at the next step, or None.
        checkpoint_every: optimiser steps between checkpoints within an epoch; None saves at the
            end of epochs only.
        keep_sparsity: entries of weight matrices that are zero at the start stay exactly zero.
        robust: ``interval`` minimises the worst that interval bounds of a perturbed input leave
            open (certified training), ``adversarial`` the worst that PGD finds.
        perturbation: against what, with ``robust``: see ``PerturbationSettings``; a mapping of its
            arguments will do.
        early_stopping: see ``EarlyStoppingSettings``; a mapping of its arguments will do.
    """

    epochs: Annotated[int, AT_LEAST_ONE] = field(default=30, metadata=LENGTH)
    loss: LossName = "auto"
    label_smoothing: Annotated[float, FRACTION] = 0.0
    class_weights: ClassWeights = None
    mixup: Annotated[float, FINITE_NON_NEGATIVE] = 0.0
    cutmix: Annotated[float, FINITE_NON_NEGATIVE] = 0.0
    clip_norm: Annotated[float, POSITIVE] | None = 1.0
    accumulate: Annotated[int, AT_LEAST_ONE] = 1
    ema: Annotated[float, FRACTION] = 0.0
    precision: Precision = "fp32"
    compile: bool = False
    on_nonfinite: OnNonFinite = "stop"
    max_time: Annotated[float, POSITIVE] | None = field(default=None, metadata=LENGTH)
    checkpoint_every: Annotated[int, AT_LEAST_ONE] | None = field(default=None, metadata=RECORD)
    keep_sparsity: bool = False
    robust: RobustName = "none"
    perturbation: PerturbationSettings = field(default_factory=PerturbationSettings)
    early_stopping: EarlyStoppingSettings = field(
        default_factory=EarlyStoppingSettings, metadata=LENGTH
    )

    def __post_init__(self) -> None:
        if isinstance(self.early_stopping, Mapping):
            object.__setattr__(self, "early_stopping", EarlyStoppingSettings(**self.early_stopping))
        if isinstance(self.perturbation, Mapping):
            object.__setattr__(self, "perturbation", PerturbationSettings(**self.perturbation))
        check_ranges(TrainerSettings, self)
