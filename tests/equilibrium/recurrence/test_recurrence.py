import pytest
import torch

from idl_cli.equilibrium.activations import get_activation
from idl_cli.equilibrium.operators import DenseOperator
from idl_cli.equilibrium.problem import EquilibriumProblem
from idl_cli.equilibrium.recurrence.layout import Recurrence, RecurrenceWeights
from idl_cli.equilibrium.recurrence.recurrence import implicit_recurrence
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings
from idl_cli.errors import ArgumentError, ShapeError


def problem() -> EquilibriumProblem:
    return EquilibriumProblem(
        DenseOperator, get_activation("relu"), FixedPointSettings(), AdjointSettings(), None
    )


def weights(**changes: torch.Tensor) -> RecurrenceWeights:
    torch.manual_seed(0)
    drawn = {"B": torch.randn(4, 5), "C": torch.randn(2, 4), "D": torch.randn(2, 5)}
    biases = {"state_bias": torch.randn(4), "output_bias": torch.randn(2)}
    return RecurrenceWeights(DenseOperator(torch.zeros(4, 4)), **{**drawn, **biases, **changes})


def test_without_feedback_a_step_is_a_layer() -> None:
    # A = 0: x_t = relu(B [u_t, h] + b) and h_t = C x_t + D [u_t, h] + c; the second sample ends.
    made = weights()
    inputs, initial = torch.randn(3, 3), torch.randn(2, 2)
    assert made.D is not None

    def step(u: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        both = torch.cat((u, h), dim=1)
        x = torch.relu(both @ made.B.t() + made.state_bias)
        return x @ made.C.t() + both @ made.D.t() + made.output_bias

    outputs, final = implicit_recurrence(made, inputs, initial, Recurrence(problem(), (2, 1)))
    first = step(inputs[:2], initial)
    second = step(inputs[2:], first[:1])
    torch.testing.assert_close(outputs, torch.cat((first, second)))
    torch.testing.assert_close(final, torch.cat((second, first[1:])))


def test_final_rows_end_each_sample() -> None:
    # Rows of lengths 4, 3, 3, 1: steps of 4, 3, 3 and 1 samples.
    rows = Recurrence(problem(), (4, 3, 3, 1)).final_rows(torch.device("cpu"))
    assert rows.tolist() == [10, 8, 9, 3]


@pytest.mark.parametrize("sizes", [(), (2, 3), (2, 0)])
def test_layouts_that_grow_or_end_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="batch_sizes"):
        Recurrence(problem(), sizes)


def test_tensors_that_do_not_fit_are_named() -> None:
    with pytest.raises(ShapeError, match=r"C has shape \(4, 2\); expected \(2, 4\)"):
        implicit_recurrence(
            weights(C=torch.zeros(4, 2)),
            torch.zeros(3, 3),
            torch.zeros(2, 2),
            Recurrence(problem(), (2, 1)),
        )
