"""Whether second moments can be those of data that float64 resolves."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from idl_cli.errors import ArgumentError, DataError

_NEGATIVE = 1e-9
"""Beside the sum of all, what rounding may make of a sum of squares."""


def check_squares(features: Tensor, cross: Tensor, targets: Tensor) -> None:
    """Refuse squares that no data have: negative beyond rounding, or lost to underflow.

    Args:
        features: G_jj (D,).
        cross: H (rows, D).
        targets: ‖z_i‖² (rows,).

    Raises:
        ArgumentError: the message names the feature or row.
    """
    for name, squares in {
        "gram[j, j] of feature": features,
        "target_square of row": targets,
    }.items():
        if bool((squares < -_NEGATIVE * squares.abs().sum()).any()):
            index = int(squares.argmin())
            raise ArgumentError(
                f"RowRegression: {name} {index} is {float(squares[index]):g}: a sum of squares is "
                "not negative"
            )
    tiny = torch.finfo(torch.float64).tiny
    lost = (features >= 0) & (features < tiny) & (cross != 0).any(dim=0)
    if bool(lost.any()):
        raise ArgumentError(
            f"RowRegression: the squares of feature {int(lost.nonzero()[0])} underflow, so that "
            "its size is lost: give it a unit in which it is not below 1e-150"
        )


def check_moments(
    origin: object, gram: Tensor, cross: Mapping[str, Tensor], square: Mapping[str, Tensor]
) -> None:
    """Refuse finite moments that are those of no data.

    Args:
        origin: where they are from, for messages.
        gram: (D, D).
        cross: name -> (rows, D).
        square: name -> (rows,).

    Raises:
        DataError: not symmetric, negative, or beyond Cauchy-Schwarz.
    """
    slack = 1e-9  # round-off of the sums; anything beyond it did not come from data
    diagonal = gram.diagonal()
    if bool((diagonal < 0).any()) or not torch.allclose(
        gram, gram.T, rtol=0.0, atol=slack * float(diagonal.abs().max())
    ):
        raise DataError(f"{origin}: the gram matrix is not symmetric positive semi-definite")
    for name, moments in cross.items():
        bound = (square[name][:, None].clamp(min=0) * diagonal).sqrt()
        if bool((moments.abs() > bound * (1 + slack)).any()):
            raise DataError(
                f"{origin}: cross moments of {name} exceed what any data could give "
                "(Cauchy-Schwarz); the file is damaged"
            )
