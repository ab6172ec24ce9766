"""Which set A is kept in: what ``well_posedness`` and ``rank`` ask for."""

from __future__ import annotations

from collections.abc import Mapping

from idl_cli.equilibrium.conditions import well_posedness_problems
from idl_cli.errors import ArgumentError
from idl_cli.models.parametrizations.base import Parametrization
from idl_cli.models.parametrizations.free import Free, FreeLowRank
from idl_cli.models.parametrizations.linf import Linf
from idl_cli.models.parametrizations.low_rank_linf import LowRankLinf
from idl_cli.models.parametrizations.triangular import Triangular


def parametrization_of(
    size: int, *, rank: int | None, kappa: float, well_posedness: str
) -> Parametrization:
    """Return the set of A; the arguments have passed ``check_architecture``.

    Args:
        size: number of states n.
        rank: r of A = L Rᵀ; None for a full matrix.
        kappa: κ of ‖A‖∞ ≤ κ, kept where ``well_posedness`` is ``linf``.
        well_posedness: ``linf``, ``triangular`` or ``none``.
    """
    if rank is not None:
        return (LowRankLinf if well_posedness == "linf" else FreeLowRank)(size, rank, kappa)
    return {"linf": Linf, "triangular": Triangular, "none": Free}[well_posedness](size, kappa)


def check_architecture(
    sizes: Mapping[str, int],
    *,
    rank: int | None,
    kappa: float,
    activation: str,
    well_posedness: str,
) -> None:
    """Refuse sizes and choices that contradict each other, all at once.

    Args:
        sizes: each dimension by its argument's name, ``hidden_dim`` among them.
        rank: as in ``parametrization_of``.
        kappa: as in ``parametrization_of``.
        activation: name of φ.
        well_posedness: as in ``parametrization_of``.

    Raises:
        ArgumentError: with a sentence for each problem.
    """
    problems = [f"{name}={size} must be at least 1." for name, size in sizes.items() if size < 1]
    problems += well_posedness_problems(
        hidden_dim=sizes["hidden_dim"],
        rank=rank,
        kappa=kappa,
        activation=activation,
        well_posedness=well_posedness,
    )
    if problems:
        raise ArgumentError(" ".join(problems))
