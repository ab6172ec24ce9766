"""How often two classifiers say the same."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from torch import Tensor, nn

from idl_cli.errors import ArgumentError
from idl_cli.evaluation.metrics import predicted_classes
from idl_cli.sim.hooks import left_as_found


def agreement_with(
    teacher: nn.Module, model: nn.Module, loader: Iterable[tuple[Tensor, Tensor]]
) -> float:
    """Share of the loader's samples to which both give the same class.

    Outputs without a class (see ``predicted_classes``) agree with nothing; a warning counts them.

    Args:
        teacher: gives logits (m, K).
        model: gives logits (m, K).
        loader: batches of (inputs, …).

    Raises:
        ArgumentError: the loader has no samples.
    """
    same, count, undefined = 0, 0, 0
    with left_as_found(teacher), left_as_found(model):
        for inputs, _ in loader:
            classes = predicted_classes(model(_placed(inputs, model)))
            expected = predicted_classes(teacher(_placed(inputs, teacher))).to(classes.device)
            known = (classes >= 0) & (expected >= 0)
            same += int((known & (classes == expected)).sum())
            undefined += int((~known).sum())
            count += len(inputs)
    if count == 0:
        raise ArgumentError("the loader has no samples to compare on")
    if undefined:
        warnings.warn(
            f"{undefined:,} of {count:,} outputs are not finite; they agree with nothing",
            stacklevel=2,
        )
    return same / count


def _placed(inputs: Tensor, module: nn.Module) -> Tensor:
    parameter = next(module.parameters())
    return inputs.to(parameter.device, parameter.dtype)
