"""The scale that makes a contraction: proven, or refused with what is proven instead."""

from __future__ import annotations

import re

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from idl_cli.errors import ArgumentError, UnsupportedModelError
from idl_cli.models.sparse.scaling import (
    contraction_scale,
    is_acyclic,
    radius_below,
    radius_bound,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.integers(0, 10**6),
    st.integers(1, 12),
    st.floats(0.05, 1),
    st.floats(0.1, 3),
    st.floats(0.05, 0.95),
)
def test_a_scale_exists_exactly_where_the_radius_is_below(
    seed: int, size: int, density: float, largest: float, kappa: float
) -> None:
    generator = np.random.default_rng(seed)
    A = scipy.sparse.random_array((size, size), density=density, rng=generator).tocsr()
    A.data = generator.uniform(-largest, largest, A.nnz)
    dense = np.abs(A.toarray())
    radius = float(np.abs(np.linalg.eigvals(dense)).max())
    low = radius_below(abs(A).tocsr())
    # Eigenvalues of matrices that are not normal are known to about the square root of rounding.
    assert low <= radius * (1 + 1e-6) + 1e-6
    if abs(radius - kappa) < 1e-5:
        return
    if radius < kappa:
        t = contraction_scale(A, kappa)
        assert (dense @ t < kappa * t).all()
        assert radius_bound(abs(A).tocsr(), t) >= radius * (1 - 1e-6) - 1e-6
    else:
        with pytest.raises(UnsupportedModelError) as refused:
            contraction_scale(A, kappa)
        proven = re.search(r"at least ([\d.]+)", str(refused.value))
        assert proven is None or float(proven[1]) >= kappa * (1 - 1e-5)


def test_a_refusal_proves_the_radius() -> None:
    ring = scipy.sparse.csr_matrix(np.roll(np.eye(5) * 0.7, 1, axis=1))
    with pytest.raises(UnsupportedModelError, match=r"at least 0\.7 "):
        contraction_scale(ring, 0.5)
    assert contraction_scale(ring, 0.71).min() >= 1
    with pytest.raises(ArgumentError, match="kappa"):
        contraction_scale(ring, 1.0)


def test_chains_are_scaled_whatever_their_weights() -> None:
    chain = scipy.sparse.diags_array(np.full(20, 1e9), offsets=1).tocsr()
    t = contraction_scale(chain, 0.5)
    assert (chain @ t <= 0.5 * t).all()
    with pytest.raises(UnsupportedModelError, match="beyond what float64 holds"):
        contraction_scale(scipy.sparse.diags_array(np.full(40, 1e9), offsets=1).tocsr(), 0.5)


def test_cycles_are_seen_over_many_states() -> None:
    ring = scipy.sparse.csr_matrix(np.roll(np.eye(6), 1, axis=1))
    assert not is_acyclic(ring)
    ring[5, 0] = 0
    assert is_acyclic(ring)
    assert not is_acyclic(scipy.sparse.csr_matrix(np.diag([0, 1.0])))
