"""Perturbations in the data's own unit, as a model's inputs feel them."""

from __future__ import annotations

import torch
from torch import Tensor

from idl_cli.data.preprocessing import Preprocessing


def input_radius(preprocessing: Preprocessing, epsilon: float) -> Tensor:
    """Return ε/std (*statistics_shape), float64: what ε of a value is of an input.

    Args:
        preprocessing: of the model.
        epsilon: in the unit of the values after the division: of pixels in [0, 1], say.
    """
    return epsilon / _statistic(preprocessing, preprocessing.std, 1.0)


def valid_inputs(preprocessing: Preprocessing) -> tuple[Tensor, Tensor] | None:
    """Return the smallest and largest inputs, float64, of values in [0, 1].

    None where values are no shares of a largest one, as 8-bit pixels are of 255: nothing is known
    of their range.
    """
    if preprocessing.divisor == 1.0:
        return None
    mean = _statistic(preprocessing, preprocessing.mean, 0.0)
    deviation = _statistic(preprocessing, preprocessing.std, 1.0)
    return (0.0 - mean) / deviation, (1.0 - mean) / deviation


def _statistic(preprocessing: Preprocessing, entries: tuple[float, ...], without: float) -> Tensor:
    if preprocessing.normalize == "none":
        return torch.tensor(without, dtype=torch.float64)
    return torch.tensor(entries, dtype=torch.float64).reshape(preprocessing.statistics_shape)
