"""λ is chosen by the score it is given, sparser models first among equals."""

import itertools
import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from idl_cli.errors import ArgumentError, IgnoredOptionWarning
from idl_cli.sim.fit.fits import Fit
from idl_cli.sim.fit.selection import Candidate, best_candidate, select_penalty

# λ: (score, share of non-zeros)
OUTCOMES = {1e-2: (0.7, 0.05), 1e-3: (0.9, 0.2), 1e-4: (0.9, 0.4), 1e-5: (0.8, 0.9)}


def _fit_at(penalty: float) -> Fit:
    score, share = OUTCOMES[penalty]
    return cast(Fit, SimpleNamespace(score=score, nonzero_fraction=share))


def _score(found: Fit) -> float:
    return cast(SimpleNamespace, found).score


def test_the_best_score_wins_and_the_sparser_of_equals() -> None:
    best, candidates = select_penalty(list(OUTCOMES), _fit_at, _score)
    assert best.lambda_z == 1e-3
    assert [each.lambda_z for each in candidates] == list(OUTCOMES)


def test_a_limit_on_the_non_zeros_is_kept() -> None:
    best, _ = select_penalty(list(OUTCOMES), _fit_at, _score, max_nonzero_fraction=0.1)
    assert best.lambda_z == 1e-2
    with pytest.warns(IgnoredOptionWarning, match=r"the sparsest, lambda_z=0\.01 with 5\.0%"):
        best, _ = select_penalty(list(OUTCOMES), _fit_at, _score, max_nonzero_fraction=0.01)
    assert best.lambda_z == 1e-2


def test_a_path_goes_by_the_same_rule_and_holds_one_fit_at_a_time() -> None:
    """Whatever the order of the candidates, and without a fit made before it is asked for."""
    for order in itertools.permutations(OUTCOMES):
        made: list[float] = []

        def candidates(
            order: tuple[float, ...] = order, made: list[float] = made
        ) -> Iterator[Candidate]:
            for penalty in order:
                made.append(penalty)
                score, share = OUTCOMES[penalty]
                yield Candidate(penalty, score, share, _fit_at(penalty))

        assert best_candidate(candidates(), None)[0].lambda_z == 1e-3
        assert made == list(order)
        best, sparse_enough = best_candidate(candidates(), 0.1)
        assert (best.lambda_z, sparse_enough) == (1e-2, True)
        best, sparse_enough = best_candidate(candidates(), 0.01)
        assert (best.lambda_z, sparse_enough) == (1e-2, False)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_score_that_is_not_a_number_never_wins(place: int) -> None:
    fit = _fit_at(1e-2)
    found = [Candidate(1e-2, 0.5, 0.3, fit), Candidate(1e-3, -2.0, 0.2, fit)]
    found.insert(place, Candidate(1e-4, math.nan, 0.1, fit))
    assert best_candidate(found, None)[0].lambda_z == 1e-2


def test_an_empty_grid_is_refused() -> None:
    with pytest.raises(ArgumentError, match="grid of penalties is empty"):
        select_penalty([], _fit_at, _score)
