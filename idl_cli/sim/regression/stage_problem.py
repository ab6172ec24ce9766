"""The problem of one stage, of its statistics and a penalty in units of one's choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from idl_cli.errors import ArgumentError
from idl_cli.sim.options import LambdaScale
from idl_cli.sim.regression.blocked_problem import BlockedRegression
from idl_cli.sim.regression.problem import RowBudget, RowRegression
from idl_cli.sim.regression.shift import Shift
from idl_cli.sim.statistics.column_blocks import ColumnBlockStatistics
from idl_cli.sim.statistics.dense import SufficientStatistics


def stage_problem(
    statistics: SufficientStatistics | ColumnBlockStatistics,
    target: str,
    *,
    penalty: float,
    scale: LambdaScale = "absolute",
    l2: float = 0.0,
    budget: RowBudget | None = None,
) -> RowRegression:
    """The problem of one stage.

    Args:
        statistics: of features and targets.
        target: name of the target, e.g. "Z" for [A B], "Y" for [C D].
        penalty: λ in units of ``scale``.
        scale: ``absolute``: λ itself; ``per_sample``: times the number of samples;
            ``relative``: times ``row_lambda_max``, so that each row has a λ of its own
            and the units of a target do not matter. A row that is all-zero at any λ takes the
            largest of the others'.
        l2: weight of ½‖w‖², absolute.
        budget: the constraint, or None.

    Raises:
        ArgumentError: unknown target or scale, or a penalty out of range.
    """
    if target not in statistics.cross:
        raise ArgumentError(
            f"target {target!r} is not in the statistics; there are {sorted(statistics.cross)}"
        )
    of: Callable[..., RowRegression] = RowRegression
    if statistics.blocks is not None:
        of = partial(BlockedRegression, blocks=statistics.blocks)
    parts = (statistics.gram, statistics.cross[target], statistics.square[target])
    shift = None
    if statistics.offsets is not None and l2 == 0:
        # The elastic net weighs the weights themselves, which a shift would mix.
        offsets, targets = statistics.offsets, statistics.target_offsets(target)
        shift = Shift(offsets.constant, offsets.features, targets, *parts)
    unscaled = of(*statistics.raw(target), penalty, l2, budget, shift)
    if scale == "absolute":
        return unscaled
    if scale == "per_sample":
        return replace(unscaled, l1=penalty * statistics.count)
    if scale == "relative":
        limits, largest = unscaled.row_lambda_max, unscaled.lambda_max
        if penalty == 0 or largest == 0:
            return replace(unscaled, l1=0.0)
        return replace(unscaled, l1=penalty * torch.where(limits > 0, limits, largest))
    raise ArgumentError(
        f"lambda_scale={scale!r} is unknown; choose absolute, per_sample or relative"
    )
