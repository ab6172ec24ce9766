"""Numbers of a file as floats that are the same numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from idl_cli.errors import DataError


def exact_floats(values: npt.NDArray[np.generic], name: str) -> Tensor:
    """Return numbers as float32 where they are no wider, and as float64 otherwise.

    Args:
        values: of a real dtype, finite in float64.
        name: of the array, for the message.

    Raises:
        DataError: an integer has more digits than float64 keeps; numbers that differ in the last
            of them alone would become equal.
    """
    small = values.dtype.kind == "f" and values.dtype.itemsize <= 4
    held = np.ascontiguousarray(values, dtype=np.float32 if small else np.float64)
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        with np.errstate(invalid="ignore"):  # 2**63 - 1 becomes 2**63, which no int64 is
            lost = held.astype(values.dtype) != values
        if lost.any():
            position = np.unravel_index(int(lost.argmax()), values.shape)
            where = ", ".join(str(index) for index in position)
            raise DataError(
                f"{name}: entry [{where}] is {values[position]}, of whose digits float64 keeps 16"
                f" ({lost.sum():,} of {values.size:,} entries lose some): subtract an offset from"
                " such a column first, or leave it out if it only numbers the samples"
            )
    return torch.from_numpy(held)
