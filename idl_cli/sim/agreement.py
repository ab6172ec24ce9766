"""How often two classifiers say the same."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from idl_cli.errors import ArgumentError
from idl_cli.sim.hooks import left_as_found


def agreement_with(
    teacher: nn.Module, model: nn.Module, loader: Iterable[tuple[Tensor, Tensor]]
) -> float:
    """Share of the loader's samples to which both give the same class.

    Args:
        teacher: gives logits (m, K).
        model: gives logits (m, K).
        loader: batches of (inputs, …).

    Raises:
        ArgumentError: the loader has no samples.
    """
    same, count = 0, 0
    with left_as_found(teacher), left_as_found(model):
        for inputs, _ in loader:
            classes = model(_placed(inputs, model)).argmax(dim=1)
            expected = teacher(_placed(inputs, teacher)).argmax(dim=1)
            same += int((classes == expected.to(classes.device)).sum())
            count += len(inputs)
    if count == 0:
        raise ArgumentError("the loader has no samples to compare on")
    return same / count


def _placed(inputs: Tensor, module: nn.Module) -> Tensor:
    parameter = next(module.parameters())
    return inputs.to(parameter.device, parameter.dtype)
