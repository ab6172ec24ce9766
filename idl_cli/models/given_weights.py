"""Weights of an implicit model as values: what is in use, and checks of what a caller gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from idl_cli.equilibrium.conditions import WellPosedness
from idl_cli.equilibrium.constraints import row_l1_norms, within_rounding
from idl_cli.errors import ArgumentError, ShapeError


@dataclass(frozen=True)
class ImplicitWeights:
    """The matrices an implicit model uses, detached: constraint applied, product formed.

    Attributes:
        A: (n, n).
        B: (n, p).
        C: (q, n).
        D: (q, p); zeros where the model has none.
        state_bias: (n,); zeros where the model has none.
        output_bias: (q,); zeros where the model has none.
    """

    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor
    state_bias: Tensor
    output_bias: Tensor


def checked_dimensions(given: Mapping[str, Tensor | None]) -> tuple[int, int, int]:
    """Return n, p and q of weights that fit together.

    Args:
        given: A, B, C, and D, state_bias, output_bias where they are not None, by name.

    Raises:
        ShapeError: they do not fit together.
    """
    A, B, C = (_matrix(given, name) for name in ("A", "B", "C"))
    n, p, q = A.shape[0], B.shape[1], C.shape[0]
    shapes: dict[str, tuple[int, ...]] = {
        "A": (n, n),
        "B": (n, p),
        "C": (q, n),
        "D": (q, p),
        "state_bias": (n,),
        "output_bias": (q,),
    }
    for name, tensor in given.items():
        if tensor is not None and tuple(tensor.shape) != shapes[name]:
            raise ShapeError(
                f"{name} has shape {tuple(tensor.shape)}; A, B and C ask for {shapes[name]}."
            )
    return n, p, q


def _matrix(given: Mapping[str, Tensor | None], name: str) -> Tensor:
    matrix = given[name]
    if matrix is None or matrix.dim() != 2:
        shape = None if matrix is None else tuple(matrix.shape)
        raise ShapeError(f"{name} has shape {shape}; expected a matrix.")
    return matrix


def check_feedback(A: Tensor, *, kappa: float, well_posedness: WellPosedness) -> None:
    """Refuse an A outside the set that ``well_posedness`` names.

    Args:
        A: (n, n).
        kappa: κ of ``linf``.
        well_posedness: the set.

    Raises:
        ArgumentError: A is not in it.
    """
    if well_posedness == "triangular" and bool(A.tril().any()):
        raise ArgumentError(
            "well_posedness=triangular: A has entries on or below its diagonal. Reorder the "
            "states, or choose linf."
        )
    norm = float(row_l1_norms(A).max())
    # A matrix on the ball may have been rounded to its dtype; beyond that it is another model.
    if well_posedness == "linf" and not norm <= within_rounding(kappa, A.dtype):
        raise ArgumentError(
            f"well_posedness=linf: ‖A‖∞ = {norm:.6g} exceeds kappa={kappa:g}. Rescale or "
            "project the weights, raise kappa, or choose none."
        )
