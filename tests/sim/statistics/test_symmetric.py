"""Symmetric sums by their upper triangle: equal to the whole product, and symmetric to the bit."""

from __future__ import annotations

import pytest
import torch

from idl_cli.sim.statistics.symmetric import add_gram_, mirror_, strips

# One strip, strips of the least width with and without a rest, and strips wider than that.
SIZES = (1, 127, 128, 129, 300, 2100)


@pytest.mark.parametrize("size", SIZES)
def test_a_gram_matrix_added_by_strips_is_that_of_the_whole_product(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    batches = [torch.randn(rows, size, dtype=torch.float64, generator=generator) for rows in (7, 1)]
    matrix = torch.zeros(size, size, dtype=torch.float64)
    for batch in batches:
        add_gram_(matrix, batch)
    mirror_(matrix)
    assert torch.equal(matrix, matrix.T)
    torch.testing.assert_close(
        matrix, sum(batch.T @ batch for batch in batches), rtol=1e-13, atol=1e-13
    )


@pytest.mark.parametrize("size", SIZES)
def test_strips_are_views_of_little_more_than_the_upper_triangle(size: int) -> None:
    matrix = torch.zeros(size, size, dtype=torch.float64)
    parts = strips(matrix)
    for part in parts:
        part.fill_(1.0)
    assert torch.equal(matrix.triu(), torch.ones_like(matrix).triu())
    numbers = sum(part.numel() for part in parts)
    assert numbers == int(matrix.sum())
    assert numbers <= size * (size + 128 + size / 16) / 2


def test_mirroring_makes_differently_rounded_halves_equal() -> None:
    matrix = torch.randn(130, 130, dtype=torch.float64)
    upper = matrix.triu()
    mirror_(matrix)
    assert torch.equal(matrix, upper + upper.triu(1).T)
