"""Loss, metrics and solves of an epoch's training steps, added up over steps and ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from idl_cli.data.task import Task
from idl_cli.distributed.group import Group
from idl_cli.equilibrium.statistics import SolveStatistics
from idl_cli.evaluation.metrics import Metrics, make_metrics
from idl_cli.evaluation.over_ranks import merge_statistics, merged_metrics, on_cpu
from idl_cli.training.settings import TrainerSettings
from idl_cli.training.stepping import StepResult


class EpochTotals:
    """What an epoch's training steps came to so far.

    The objective is that of all ranks; metrics and solves are this rank's until ``figures`` adds
    them up.

    Args:
        task: decides the metrics.
        settings: say what is minimised.
        statistics: of the model's solves; None where it solves nothing.
        group: of the ranks.
        robust_figure: name of the robust accuracy; None without a robust training.
    """

    def __init__(
        self,
        task: Task,
        settings: TrainerSettings,
        statistics: SolveStatistics | None,
        group: Group,
        robust_figure: str | None = None,
    ) -> None:
        self._robust_figure = robust_figure
        self._standing = [0.0, 0.0]  # this rank's samples right in their worst case, and all
        self._task = task
        self._statistics = statistics
        self._group = group
        # The loss of a record is the task's own, comparable between runs; what was minimised stands
        # beside it where it is something else.
        self._has_own_objective = bool(
            settings.label_smoothing
            or settings.class_weights is not None
            or settings.mixup
            or settings.cutmix
            or (settings.loss == "mse" and task.kind == "classification")
            or robust_figure is not None
        )
        self._metrics: Metrics = make_metrics(task)
        self._objective = [0.0, 0.0]  # Σ loss and Σ weight

    @property
    def mean_objective(self) -> float:
        """Mean of what is minimised; NaN before the first finite step."""
        total, weight = self._objective
        return total / weight if weight else math.nan

    def reset(self) -> None:
        """Begin an epoch."""
        self._metrics = make_metrics(self._task)
        self._objective = [0.0, 0.0]
        self._standing = [0.0, 0.0]
        if self._statistics is not None:
            self._statistics.reset()

    def add(self, result: StepResult) -> None:
        """Add a step."""
        self._objective[0] += result.loss
        self._objective[1] += result.weight
        self._standing[0] += result.standing
        for outputs, targets in result.outputs:
            self._standing[1] += len(targets)
            if self._task.kind == "classification" and targets.is_floating_point():
                targets = targets.argmax(dim=1)  # a mixed sample counts by what it mostly shows
            self._metrics.update(outputs, targets)

    def figures(self) -> dict[str, float]:
        """Return the metrics, the objective where it is another than the loss, and the solves.

        The model's statistics hold the solves of all ranks afterwards.
        """
        solved: dict[str, float] = {}
        if self._statistics is not None:
            merge_statistics(self._statistics, self._group)
            seconds = self._statistics.seconds()  # of all ranks, which work side by side
            solved = {key: value / self._group.size for key, value in seconds.items()}
            solved |= self._statistics.summary()
        # No finite step, or none with weight: nothing was added to the metrics.
        metrics = {"loss": math.nan}
        if self._objective[1]:
            metrics = merged_metrics(self._metrics, make_metrics(self._task), self._group).compute()
        if self._has_own_objective:
            metrics["objective"] = self.mean_objective
        if self._robust_figure is not None:
            right, samples = map(sum, zip(*self._group.gather_objects(self._standing), strict=True))
            metrics[self._robust_figure] = right / samples if samples else math.nan
        return {**metrics, **solved}

    def state_dict(self) -> dict[str, Any]:
        """Return this rank's state."""
        return {
            "objective": list(self._objective),
            "standing": list(self._standing),
            "metrics": on_cpu(self._metrics.state_dict()),
            "statistics": None if self._statistics is None else self._statistics.state_dict(),
        }

    def load_state_dicts(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Continue from the states of all ranks at one step.

        As many ranks as there were go on with their own, and reach the sums they would have
        reached; otherwise the first rank goes on with the sum of all, and the others with nothing.
        """
        group = self._group
        self.reset()
        self._objective = list(states[0]["objective"])
        if len(states) == group.size:
            states = [states[group.rank]]
        elif group.rank > 0:
            states = []
        for state in states:
            # Checkpoints of before robust trainings have none.
            for index, count in enumerate(state.get("standing", ())):
                self._standing[index] += count
            self._metrics.merge(state["metrics"])
            if self._statistics is not None:
                self._statistics.merge(state["statistics"])
