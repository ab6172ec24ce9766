"""Checks of a batch of states, inputs and targets before it is added to sums."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from idl_cli.errors import NonFiniteError, ShapeError
from idl_cli.sim.statistics.finite import all_finite


def check_batch(tensors: Mapping[str, Tensor], widths: Mapping[str, int], seen: int) -> None:
    """Refuse a batch that cannot be added.

    Args:
        tensors: what is called so in messages -> (b, columns).
        widths: the same names -> number of columns.
        seen: samples before this batch, for messages.

    Raises:
        ShapeError: a tensor has the wrong shape or is of integers.
        NonFiniteError: a tensor holds NaN or infinity; the message names it and the sample.
    """
    samples = len(next(iter(tensors.values())))
    for name, tensor in tensors.items():
        if tensor.ndim != 2 or tensor.shape != (samples, widths[name]):
            raise ShapeError(
                f"{name} must have shape ({samples}, {widths[name]}) "
                f"(samples, columns), got {tuple(tensor.shape)}"
            )
        if not tensor.is_floating_point():
            raise ShapeError(f"{name} must be floating point, got {tensor.dtype}")
        if not all_finite(tensor):
            sample = int((~tensor.isfinite().all(dim=1)).nonzero()[0])
            raise NonFiniteError(
                f"{name} holds NaN or infinity (first in sample {seen + sample}); "
                "check the teacher and the preprocessing of its inputs"
            )
