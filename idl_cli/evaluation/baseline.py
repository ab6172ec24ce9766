"""The forecast that every model has to beat: tomorrow as today."""

from __future__ import annotations

from torch import Tensor

from idl_cli.data.split import Split
from idl_cli.data.task import Task
from idl_cli.evaluation.metrics import make_metrics


def persistence_metrics(part: Split, task: Task) -> dict[str, float]:
    """Measure the persistence forecast, which repeats the last observed value.

    Args:
        part: raw samples and their targets.
        task: a forecast.

    Returns:
        ``r2``, ``mse``, ``mae``, ``mape`` in the target's own unit.
    """
    assert task.forecast is not None, "only a forecast has a last observed value"
    repeated: Tensor = task.forecast.persistence(part.inputs).double()
    if task.target_scaling is not None:
        repeated = task.target_scaling.scale(repeated)
    metrics = make_metrics(task)
    metrics.update(repeated, part.targets)
    figures = metrics.compute()
    return {name: figures[name] for name in ("r2", "mse", "mae", "mape")}
