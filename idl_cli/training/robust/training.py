"""A worst case with its perturbations in the unit of a model's inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor, nn

from idl_cli.data.input_unit import input_radius, valid_inputs
from idl_cli.data.preprocessing import Preprocessing
from idl_cli.data.task import Task
from idl_cli.distributed.group import Group
from idl_cli.errors import ConfigError
from idl_cli.evaluation.attacks import Ball
from idl_cli.evaluation.attacks.margins import margins
from idl_cli.evaluation.loop import evaluation_mode
from idl_cli.training.robust.adversarial import Adversarial
from idl_cli.training.robust.interval import Interval
from idl_cli.training.robust.settings import (
    ROBUST_FIGURES,
    PerturbationSettings,
    RobustName,
    Stage,
)
from idl_cli.training.robust.worst_case import WorstCase

WORST_CASES: Final[Mapping[RobustName, Callable[[PerturbationSettings], WorstCase]]] = (
    MappingProxyType({"interval": lambda _: Interval(), "adversarial": Adversarial})
)


class Robustness:
    """What a robust training needs beside a plain one.

    Args:
        worst_case: whose loss is minimised.
        figure: name of the accuracy of its logits.
        settings: which perturbations.
        preprocessing: of the inputs; says what ε is in their unit, and their valid range.
        device: where the batches are.
    """

    def __init__(
        self,
        worst_case: WorstCase,
        figure: str,
        settings: PerturbationSettings,
        preprocessing: Preprocessing,
        device: torch.device | str = "cpu",
    ) -> None:
        self._worst_case = worst_case
        self.figure = figure
        self._settings = settings
        self._unit = input_radius(preprocessing, 1.0).to(device)
        valid = valid_inputs(preprocessing)
        self._valid = None if valid is None else (valid[0].to(device), valid[1].to(device))

    def stage(self, epoch: float) -> Stage:
        """Return where the schedule stands after that many passes."""
        return self._settings.stage(epoch)

    def worst_logits(
        self, model: nn.Module, inputs: Tensor, labels: Tensor, epsilon: float | None = None
    ) -> Tensor:
        """Return the worst case's logits (b, K).

        Args:
            model: what is trained.
            inputs: samples (b, *input_shape).
            labels: their classes (b,).
            epsilon: ε in the data's own unit; that of the settings where it is None.
        """
        epsilon = self._settings.epsilon if epsilon is None else epsilon
        ball = Ball.around(inputs, epsilon * self._unit, self._valid)
        return self._worst_case(model, inputs, labels, ball)

    def measure(
        self, model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], group: Group
    ) -> dict[str, float]:
        """Return the robust accuracy at the ε of the settings, and that ε.

        Args:
            model: in the mode it is in afterwards, too.
            batches: of inputs and labels; of each, this rank's part.
            group: of the ranks, all of which call this.
        """
        right = samples = 0.0
        with evaluation_mode(model), torch.no_grad():
            for inputs, labels in batches:
                if len(labels):
                    right += float(standing(self.worst_logits(model, inputs, labels), labels))
                    samples += len(labels)
        sums = zip(*group.gather_objects((right, samples)), strict=True)
        right, samples = map(sum, sums)
        return {self.figure: right / samples, "epsilon": self._settings.epsilon}


def standing(worst: Tensor, labels: Tensor) -> Tensor:
    """Return how many of the samples are right in their worst case, ties being wrong: ()."""
    return (margins(worst.detach(), labels) > 0).sum().to(worst.dtype)


def make_robustness(
    name: RobustName,
    settings: PerturbationSettings,
    *,
    model: nn.Module,
    task: Task,
    preprocessing: Preprocessing,
    device: torch.device | str,
) -> Robustness | None:
    """Return what ``trainer.robust`` asks for, None for ``none``.

    Raises:
        ConfigError: the model or the data set cannot be trained in this way.
    """
    if name == "none":
        return None
    worst_case = WORST_CASES[name](settings)
    problem = worst_case.problem(model)
    if task.kind != "classification" or task.output_dim < 2:
        problem = "the data set has no classes to confuse; robust training is for classifications"
    if problem is not None:
        raise ConfigError([f"trainer.robust={name}: {problem}"])
    return Robustness(worst_case, ROBUST_FIGURES[name], settings, preprocessing, device)
