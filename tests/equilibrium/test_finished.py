"""Samples that are finished while others of their batch go on."""

from __future__ import annotations

import torch

from idl_cli.equilibrium.activations import get_activation
from idl_cli.equilibrium.finished import Finished
from idl_cli.equilibrium.operators import DenseOperator
from idl_cli.equilibrium.problem import EquilibriumProblem, solve_state
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings


def test_a_sample_stands_still_at_its_own_check_in_a_small_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.rand(30, 30, generator=generator, dtype=torch.float64)
    matrix *= 0.8 / matrix.sum(dim=1, keepdim=True)
    level = torch.linspace(-2, 2, 40, dtype=torch.float64)[:, None]
    offset = torch.randn(40, 30, generator=generator, dtype=torch.float64) + level
    settings = FixedPointSettings("picard", tol=1e-9)
    problem = EquilibriumProblem(
        DenseOperator, get_activation("relu"), settings, AdjointSettings(), None
    )
    together = solve_state(problem, DenseOperator(matrix), offset, None)
    assert len(together.iterations.unique()) > 2
    for index in (0, 13, 26, 39):
        alone = solve_state(problem, DenseOperator(matrix), offset[index : index + 1], None)
        assert alone.iterations[0] == together.iterations[index]
        torch.testing.assert_close(alone.value[0], together.value[index], rtol=1e-13, atol=1e-13)


def test_results_are_those_of_each_samples_last_writing() -> None:
    finished = Finished()
    value = torch.arange(6.0).view(3, 2)
    finished.write(value, torch.tensor([0.1, 0.2, 0.3]), 7)
    finished.leave(torch.tensor([False, True, True]))
    finished.write(value + 10, torch.tensor([1.1, 1.2, 1.3]), 12)
    kept = finished.take_out(torch.tensor([False, False, True]))
    assert kept.tolist() == [2]
    finished.write(value[2:] + 20, torch.tensor([2.3]), 17)
    values, residuals, iterations = finished.results()
    assert values.tolist() == [[0, 1], [12, 13], [24, 25]]
    torch.testing.assert_close(residuals, torch.tensor([0.1, 1.2, 2.3]))
    assert iterations.tolist() == [7, 12, 17]
