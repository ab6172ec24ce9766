"""The figures of a state-driven training show the numbers they are given."""

import numpy as np
import pytest
import torch

from idl_cli.analysis.sim_plots import gap_curves, sparsity_pattern
from idl_cli.models.implicit import ImplicitModel


def test_gaps_are_drawn_against_time_for_each_stage() -> None:
    rows = [
        {"split": "ab", "seconds": 0.1, "relative_gap": 1e-2},
        {"split": "ab", "seconds": 0.2, "relative_gap": 1e-7},
        {"split": "cd", "seconds": 0.05, "relative_gap": 0.0},
        {"split": "test", "accuracy": 0.9},
    ]
    (axis,) = gap_curves(rows, tol=1e-6).axes
    curves = {line.get_label(): line for line in axis.lines}
    assert list(curves["[A B]"].get_xdata()) == [0.1, 0.2]
    assert list(curves["[A B]"].get_ydata()) == [1e-2, 1e-7]
    assert curves["[C D]"].get_ydata()[0] > 0  # zero has no place on a logarithmic axis
    assert list(curves["tol"].get_ydata()) == [1e-6, 1e-6]
    assert axis.get_yscale() == "log"


def test_the_pattern_is_that_of_the_blocks() -> None:
    A = torch.tensor([[0.0, 0.5], [0.0, 0.0]])
    B = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    C, D = torch.tensor([[0.0, 3.0]]), torch.tensor([[0.0, 0.0, 4.0]])
    model = ImplicitModel.from_weights(A, B, C, D)
    (axis,) = sparsity_pattern(model).axes
    drawn = axis.images[0].get_array()
    expected = [[0, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 1, 0, 0, 1]]
    assert np.array_equal(np.asarray(drawn), np.array(expected, dtype=bool))
    assert "33.3%" in axis.get_title()


@pytest.mark.parametrize("rows", [[], [{"split": "ab", "seconds": 0.1, "relative_gap": None}]])
def test_a_solve_without_gaps_gives_an_empty_figure(rows: list[dict[str, object]]) -> None:
    (axis,) = gap_curves(rows, tol=1e-6).axes
    assert [line.get_label() for line in axis.lines] == ["tol"]
