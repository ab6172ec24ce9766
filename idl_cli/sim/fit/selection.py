"""Choose λ on held-out data: never on the test set."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from idl_cli.errors import ArgumentError, IgnoredOptionWarning
from idl_cli.sim.fit.fits import Fit


@dataclass(frozen=True, eq=False)
class Candidate:
    """One λ that was tried.

    Attributes:
        lambda_z: in the units of ``lambda_scale``; λ_y keeps its ratio to it.
        score: on the validation split, larger is better.
        nonzero_fraction: of the fit.
        fit: the model.
    """

    lambda_z: float
    score: float
    nonzero_fraction: float
    fit: Fit


def select_penalty(
    grid: Sequence[float],
    fit_at: Callable[[float], Fit],
    score: Callable[[Fit], float],
    *,
    max_nonzero_fraction: float | None = None,
    on_candidate: Callable[[Candidate], None] | None = None,
) -> tuple[Candidate, tuple[Candidate, ...]]:
    """Fit at every λ of a grid and keep the one that does best on the validation split.

    Args:
        grid: values of λ_z.
        fit_at: trains at one of them.
        score: measures a fit on the validation split, larger is better.
        max_nonzero_fraction: candidates with a larger share of non-zero weights are not chosen;
            None allows any. Where none is sparse enough the sparsest is taken, with a warning.
        on_candidate: told of each candidate.

    Returns:
        The chosen candidate (of equally good ones the sparsest) and all of them.

    Raises:
        ArgumentError: the grid is empty.
    """
    if not grid:
        raise ArgumentError("the grid of penalties is empty; name at least one value")
    candidates = []
    for penalty in grid:
        found = fit_at(penalty)
        candidate = Candidate(penalty, score(found), found.nonzero_fraction, found)
        candidates.append(candidate)
        if on_candidate is not None:
            on_candidate(candidate)
    limit = 1.0 if max_nonzero_fraction is None else max_nonzero_fraction
    allowed = [each for each in candidates if each.nonzero_fraction <= limit]
    if not allowed:
        sparsest = min(candidates, key=lambda each: each.nonzero_fraction)
        warnings.warn(
            f"no penalty of the grid gives at most {limit:.1%} non-zero weights; the sparsest, "
            f"lambda_z={sparsest.lambda_z:g} with {sparsest.nonzero_fraction:.1%}, is taken: add "
            "larger values to the grid",
            IgnoredOptionWarning,
            stacklevel=2,
        )
        return sparsest, tuple(candidates)
    best = max(allowed, key=lambda each: (each.score, -each.nonzero_fraction))
    return best, tuple(candidates)
