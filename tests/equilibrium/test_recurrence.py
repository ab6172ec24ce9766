import pytest
import torch

from idl_cli.equilibrium.activations import get_activation
from idl_cli.equilibrium.fixed_point import FixedPointSettings
from idl_cli.equilibrium.implicit_gradient import AdjointSettings, EquilibriumProblem
from idl_cli.equilibrium.operators import DenseOperator
from idl_cli.equilibrium.recurrence import Recurrence, implicit_recurrence
from idl_cli.errors import ArgumentError, ShapeError


def problem() -> EquilibriumProblem:
    return EquilibriumProblem(
        DenseOperator, get_activation("relu"), FixedPointSettings(), AdjointSettings(), None
    )


def test_without_feedback_a_step_is_a_layer() -> None:
    # A = 0: x_t = relu(E h + b_t) and h_t = C x_t + F h + c_t, two samples, the second one shorter.
    torch.manual_seed(0)
    b, c = torch.randn(3, 4), torch.randn(3, 2)
    feedback, readout, direct = torch.randn(4, 2), torch.randn(2, 4), torch.randn(2, 2)
    initial = torch.randn(2, 2)
    found = implicit_recurrence(
        DenseOperator(torch.zeros(4, 4)),
        b,
        c,
        initial,
        feedback,
        readout,
        direct,
        Recurrence(problem(), (2, 1)),
    )
    first = torch.relu(initial @ feedback.t() + b[:2]) @ readout.t() + initial @ direct.t() + c[:2]
    second = torch.relu(first[:1] @ feedback.t() + b[2:]) @ readout.t() + first[:1] @ direct.t()
    torch.testing.assert_close(found, torch.cat([first, second + c[2:]]))


@pytest.mark.parametrize("sizes", [(), (2, 3), (2, 0)])
def test_layouts_that_grow_or_end_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="batch_sizes"):
        Recurrence(problem(), sizes)


def test_blocks_and_chunks_cover_every_row_once() -> None:
    layout = Recurrence(problem(), (7, 7, 4, 1))
    chunks = layout.chunks(10**4, torch.device("cpu"))
    assert len(chunks) > 1
    assert [low for low, _ in chunks[1:]] == [high for _, high in chunks[:-1]]
    assert max(high - low for low, high in chunks) == chunks[0][1]
    rows = [
        row
        for low, high in chunks
        for _, first, last in layout.blocks(low, high)
        for row in range(first, last)
    ]
    assert sorted(rows) == list(range(7 + 7 + 4 + 1))


def test_tensors_that_do_not_fit_are_named() -> None:
    with pytest.raises(ShapeError, match=r"readout has shape \(4, 2\); expected \(2, 4\)"):
        implicit_recurrence(
            DenseOperator(torch.zeros(4, 4)),
            torch.zeros(3, 4),
            torch.zeros(3, 2),
            torch.zeros(2, 2),
            torch.zeros(4, 2),
            torch.zeros(4, 2),
            None,
            Recurrence(problem(), (2, 1)),
        )
