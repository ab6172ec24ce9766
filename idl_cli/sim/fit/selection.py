"""Choose λ on held-out data: never on the test set.

Of fits that are sparse enough the one with the best score is taken, of equally good ones the
sparsest; where none is sparse enough, the sparsest.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

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


C = TypeVar("C", bound=Candidate)


def best_candidate(candidates: Iterable[C], max_nonzero_fraction: float | None) -> tuple[C, bool]:
    """The candidate that is wanted most, and whether it is sparse enough.

    Only the best so far is held on to, so that fits can be made as they are asked for.

    Args:
        candidates: at least one; of equals the first is taken. A score of NaN is the worst.
        max_nonzero_fraction: the largest share of non-zero weights wanted; None allows any.
    """
    limit = 1.0 if max_nonzero_fraction is None else max_nonzero_fraction

    def preference(each: C) -> tuple[bool, float, float]:
        allowed = each.nonzero_fraction <= limit
        score = -math.inf if math.isnan(each.score) else each.score
        return allowed, score if allowed else 0.0, -each.nonzero_fraction

    best = max(candidates, key=preference)
    return best, best.nonzero_fraction <= limit


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

    def tried() -> Iterator[Candidate]:
        for penalty in grid:
            found = fit_at(penalty)
            candidate = Candidate(penalty, score(found), found.nonzero_fraction, found)
            candidates.append(candidate)
            if on_candidate is not None:
                on_candidate(candidate)
            yield candidate

    best, sparse_enough = best_candidate(tried(), max_nonzero_fraction)
    if not sparse_enough:
        warnings.warn(
            f"no penalty of the grid gives at most {max_nonzero_fraction:.1%} non-zero weights; "
            f"the sparsest, lambda_z={best.lambda_z:g} with {best.nonzero_fraction:.1%}, is taken: "
            "add larger values to the grid",
            IgnoredOptionWarning,
            stacklevel=2,
        )
    return best, tuple(candidates)
