import io
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from idl_cli.analysis.curves import iteration_curves, learning_curves


def _rows(metric: str = "accuracy", epochs: int = 4) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for epoch in range(1, epochs + 1):
        for split in ("train", "validation"):
            solves = {
                "iterations_mean": 5.0 + epoch,
                "iterations_max": 9.0 + epoch,
                "backward_iterations_mean": 4.0 + epoch,
                "residual_max": 1e-5 / epoch,
                "inf_norm_A": 0.1 * epoch,
            }
            rows.append(
                {"epoch": epoch, "split": split, "loss": 1.0 / epoch, metric: 0.2 * epoch, **solves}
            )
    rows.append({"epoch": 3, "split": "test", "loss": 0.4, metric: 0.5})
    return rows


def _lines(axis: Axes) -> dict[str, tuple[list[float], list[float]]]:
    return {
        str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata()))
        for line in axis.get_lines()
    }


def _render(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


@pytest.mark.parametrize("metric", ["accuracy", "r2", "mse"])
def test_learning_curves_show_every_part(metric: str) -> None:
    figure = learning_curves(_rows(metric), best_epoch=3)
    loss, quality = figure.axes
    assert _lines(loss)["train"] == ([1, 2, 3, 4], [1.0, 0.5, 1 / 3, 0.25])
    assert _lines(loss)["test"] == ([3], [0.4])
    assert _lines(quality)["validation"][1] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert _lines(loss)["model kept"][0] == [3, 3]
    for axis in figure.axes:
        assert axis.get_xlabel() == "epoch"
        assert axis.get_ylabel()
    assert _render(figure).startswith(b"\x89PNG")


def test_the_loss_is_drawn_in_its_own_unit() -> None:
    labels = [
        learning_curves(_rows("accuracy"), squared_error=squared).axes[0].get_ylabel()
        for squared in (False, True)
    ]
    assert labels == ["loss (nats a sample)", "loss (mean squared error)"]


def test_curves_differ_without_colour() -> None:
    for figure in (learning_curves(_rows()), iteration_curves(_rows())):
        for axis in figure.axes:
            styles = [(line.get_linestyle(), line.get_marker()) for line in axis.get_lines()]
            assert len(set(styles)) == len(styles)


def test_iteration_curves_show_the_solves_of_training() -> None:
    figure = iteration_curves(_rows(), kappa=0.95, tol=1e-5)
    iterations, residual, norm = figure.axes
    assert _lines(iterations)["forward, largest"][1] == [10.0, 11.0, 12.0, 13.0]
    assert residual.get_yscale() == "log"
    assert _lines(residual)["forward tol"][1] == [1e-5, 1e-5]
    assert _lines(norm)["κ"][1] == [0.95, 0.95]
    assert norm.get_ylim()[0] == 0
    assert _render(figure).startswith(b"\x89PNG")


def test_a_loss_that_falls_far_is_drawn_on_a_log_scale() -> None:
    assert learning_curves(_rows(epochs=20)).axes[0].get_yscale() == "log"
    assert learning_curves(_rows(epochs=4)).axes[0].get_yscale() == "linear"


def test_missing_numbers_leave_gaps_not_errors() -> None:
    rows = [
        {"epoch": 1, "split": "train", "loss": None},
        {"epoch": 2, "split": "train", "loss": 0.5},
    ]
    figure = learning_curves(rows)
    assert len(figure.axes) == 1
    assert _lines(figure.axes[0])["train"] == ([2], [0.5])
    assert _render(figure).startswith(b"\x89PNG")
