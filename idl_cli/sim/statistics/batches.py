"""Whether values can be added to sums: finite ones of the right shapes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from idl_cli.errors import NonFiniteError, ShapeError


def all_finite(values: Tensor) -> bool:
    """Whether no entry is NaN or infinite; integers never are.

    A sum with such an entry is one too, so a finite sum settles it in a tenth of the time that
    looking at each entry takes; one that overflowed says nothing.
    """
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())


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
