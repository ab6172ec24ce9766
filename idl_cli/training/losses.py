"""Losses as weighted sums, so that a mean over unequal batches can be formed exactly."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from idl_cli.data.task import Task
from idl_cli.errors import ArgumentError
from idl_cli.training.settings import ClassWeights, LossName

SummedLoss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(outputs (b, q), targets) → (Σᵢ wᵢ ℓᵢ, Σᵢ wᵢ): two scalars; their quotient is the mean loss.

Targets of a classification are class indices (b,), or probabilities (b, K) of mixed samples.
"""


def make_loss(
    task: Task,
    *,
    loss: LossName = "auto",
    label_smoothing: float = 0.0,
    class_weights: ClassWeights = None,
    train_targets: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> SummedLoss:
    """Return the loss of a task.

    Args:
        task: what is predicted.
        loss: see ``TrainerSettings``. ``mse`` on a classification regresses the one-hot target.
        label_smoothing: see ``cross_entropy_sum``; classification alone.
        class_weights: one weight a class, or ``balanced``; classification alone.
        train_targets: class indices (m,) that ``balanced`` counts.
        device: where the batches are.

    Raises:
        ArgumentError: the arguments do not fit the task.
    """
    classification = task.kind == "classification"
    if loss == "cross_entropy" and not classification:
        raise ArgumentError("trainer.loss=cross_entropy: the data set is a regression; use mse")
    cross_entropy = classification and loss != "mse"
    if not cross_entropy and (label_smoothing or class_weights is not None):
        raise ArgumentError(
            "trainer.label_smoothing and trainer.class_weights belong to the cross-entropy of a"
            " classification; this loss is the mean squared error"
        )
    if cross_entropy:
        weights = _class_weights(class_weights, task.output_dim, train_targets)
        weights = None if weights is None else weights.to(device)
        return lambda outputs, targets: cross_entropy_sum(
            outputs, targets, label_smoothing=label_smoothing, weights=weights
        )
    if classification:
        return lambda outputs, targets: squared_error_sum(
            outputs, _probabilities(targets, task.output_dim)
        )
    return squared_error_sum


def cross_entropy_sum(
    logits: Tensor,
    targets: Tensor,
    *,
    label_smoothing: float = 0.0,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy with label smoothing ε and class weights w, as a sum.

    For a sample of class c among K: ℓ = -(1-ε) w_c log p_c - (ε/K) Σ_k w_k log p_k, with weight
    w_c: the definition of ``torch.nn.CrossEntropyLoss``, whose mean is Σℓ / Σw_c. Of a mixed sample
    that is of the classes c with probabilities π_c it is Σ_c π_c times the ℓ and the w_c of each.

    Args:
        logits: outputs (b, K).
        targets: class indices (b,), or probabilities π (b, K).
        label_smoothing: ε in [0, 1).
        weights: w (K,), or None for ones.

    Returns:
        Two scalars, Σℓ and Σw_c.
    """
    weights = None if weights is None else weights.to(logits.dtype)
    total = functional.cross_entropy(
        logits, targets, weight=weights, label_smoothing=label_smoothing, reduction="sum"
    )
    if weights is None:
        return total, logits.new_tensor(len(targets))
    mixed = targets.is_floating_point()
    return total, (targets @ weights if mixed else weights[targets]).sum()


def squared_error_sum(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Sum over samples of the mean over outputs of (ŷ - y)², and the number of samples.

    Targets are taken in the dtype of the outputs, as gradients are.
    """
    assert outputs.shape == targets.shape
    targets = targets.to(outputs.dtype)
    return (outputs - targets).square().mean(dim=1).sum(), outputs.new_tensor(len(targets))


def _probabilities(targets: Tensor, classes: int) -> Tensor:
    return targets if targets.is_floating_point() else functional.one_hot(targets, classes)


def _class_weights(
    class_weights: ClassWeights, classes: int, train_targets: Tensor | None
) -> Tensor | None:
    if class_weights is None:
        return None
    if class_weights == "balanced":
        assert train_targets is not None, "balanced weights are counted on the training targets"
        counts = torch.bincount(train_targets.cpu(), minlength=classes).double()
        # Mean weight 1 over the samples; a class that never occurs is never weighed.
        return len(train_targets) / ((counts > 0).sum() * counts.clamp(min=1))
    if len(class_weights) != classes:
        raise ArgumentError(
            f"trainer.class_weights has {len(class_weights)} entries; the data set has {classes}"
            " classes"
        )
    if min(class_weights) < 0 or max(class_weights) <= 0:
        raise ArgumentError(
            f"trainer.class_weights={list(class_weights)}: no weight may be negative, and one must"
            " be positive"
        )
    return torch.tensor(class_weights, dtype=torch.float64)
