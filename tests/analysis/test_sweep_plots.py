"""Plots chosen from what varied: which, and what they show."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from idl_cli.analysis.comparison import Entry
from idl_cli.analysis.plot_choice import Plot, choose_plots
from idl_cli.analysis.series import label_of


def runs(
    keys: Mapping[str, Sequence[object]], figures: Sequence[Mapping[str, object]] = ({},)
) -> list[Entry]:
    """One completed run a combination of values; accuracies rise from run to run."""
    found = []
    for index, values in enumerate(itertools.product(*keys.values())):
        own = {"test_accuracy": 0.5 + 0.01 * index, **figures[index % len(figures)]}
        chosen = dict(zip(keys, values, strict=True))
        found.append(Entry(str(index), str(index), "completed", "sim", chosen, own))
    return found


def names(entries: Sequence[Entry]) -> list[str]:
    return [plot.name for plot in choose_plots(entries)]


def only(entries: Sequence[Entry]) -> Figure:
    (plot,) = choose_plots(entries)
    return plot.figure


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"a.x": [1, 2, 3]}, ["curve"]),
        ({"solver": ["cvx", "admm"], "a.x": [1, 2, 3]}, ["curve"]),
        ({"a.x": [1, 2, 3], "a.y": [0.1, 0.2], "seed": [0, 1]}, ["heat_map"]),
        ({"a.x": [1, 2], "a.y": [1, 2], "a.z": [1, 2]}, ["keys"]),
        ({"solver": ["cvx", "admm"], "seed": [0, 1]}, ["bars"]),
        ({"a.x": [None, 5]}, ["bars"]),
        ({"seed": [0, 1, 2]}, ["seeds"]),
        ({"a.x": [1]}, []),
    ],
)
def test_the_plot_follows_from_what_varied(
    keys: Mapping[str, Sequence[object]], expected: list[str]
) -> None:
    assert names(runs(keys)) == expected


def test_two_keys_that_no_run_has_together_make_no_heat_map() -> None:
    """As in a folder of runs of different commands."""
    one = [Entry(f"{x}", "", "completed", "train", {"a.x": x}, {"test_r2": x}) for x in (0.1, 0.2)]
    two = [Entry(f"s{y}", "", "completed", "sim", {"a.y": y}, {"test_r2": y}) for y in (0.3, 0.4)]
    assert names([*one, *two]) == ["keys"]
    both = Entry("b", "", "completed", "sim", {"a.x": 0.1, "a.y": 0.3}, {"test_r2": 0.5})
    assert names([*one, *two, both]) == ["heat_map"]


def test_runs_without_result_are_left_out() -> None:
    failed = Entry("f", "f", "failed", "sim", {"a.x": 9, "a.y": 1}, {}, "x")
    assert names([*runs({"a.x": [1, 2]}), failed]) == ["curve"]
    assert names([*runs({"a.x": [1]}), failed]) == []


def test_a_key_that_repeats_another_is_no_second_axis() -> None:
    entries = [
        Entry(str(x), "", "completed", "sim", {"a.x": x, "a.y": 10 * x}, {"test_r2": x})
        for x in (0.1, 0.2, 0.4)
    ]
    assert names(entries) == ["curve"]


def test_a_curve_has_a_line_a_kind_and_deviations_over_seeds() -> None:
    entries = runs({"solver": ["cvx", "admm"], "a.x": [1e-3, 1e-2, 1.0], "seed": [0, 1]})
    figure = only(entries)
    (axis,) = figure.axes
    assert axis.get_xscale() == "log"
    first = axis.containers[0]
    x, y = first.lines[0].get_data(orig=False)
    np.testing.assert_allclose(x, [1e-3, 1e-2, 1.0])
    np.testing.assert_allclose(y, [0.505, 0.525, 0.545])
    (segments,) = first.lines[2]
    half = np.diff(segments.get_segments()[0][:, 1])[0] / 2
    assert half == pytest.approx(np.std([0.5, 0.51], ddof=1))
    assert legend_of(figure) == ["cvx", "admm"]
    styles = {(c.lines[0].get_linestyle(), c.lines[0].get_marker()) for c in axis.containers}
    assert len(styles) == 2, "told apart without colour"


def test_close_values_stay_on_a_linear_axis() -> None:
    (axis,) = only(runs({"a.x": [1, 2, 3]})).axes
    assert axis.get_xscale() == "linear"


def test_a_heat_map_says_its_values_and_leaves_what_failed_empty() -> None:
    entries = runs({"a.x": [1, 2], "a.y": [10, 20, 30]})[:-1]
    axis, bar = only(entries).axes
    grid = axis.images[0].get_array()
    assert grid is not None
    assert grid.shape == (3, 2)
    assert float(grid[0, 1]) == pytest.approx(0.53)
    assert bool(np.ma.getmaskarray(np.ma.masked_invalid(grid))[2, 1])
    assert sorted(each.get_text() for each in axis.texts) == ["0.5", "0.51", "0.52", "0.53", "0.54"]
    assert "test accuracy" in bar.get_ylabel()


def test_bars_have_the_best_on_top() -> None:
    (axis,) = only(runs({"solver": ["cvx", "admm"], "seed": [0, 1]})).axes
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["admm", "cvx"]
    assert axis.yaxis_inverted()
    assert [text.get_text() for text in axis.texts] == ["0.5250 ± 0.0071", "0.5050 ± 0.0071"]


def test_sim_runs_are_shown_against_non_zeros_and_time_beside_the_teacher() -> None:
    figures = [
        {
            "sim.nonzero_fraction": share,
            "sim.teacher_test_accuracy": 0.9,
            "sim.seconds_ab": share,
            "sim.seconds_cd": 1.0,
        }
        for share in (0.01, 0.5)
    ]
    entries = runs({"solver": ["cvx", "admm"], "trainer.lambda_z": [1e-3, 1.0]}, figures)
    plots = {plot.name: plot for plot in choose_plots(entries)}
    assert list(plots) == ["curve", "sparsity", "time"]
    (axis,) = plots["sparsity"].figure.axes
    np.testing.assert_allclose(axis.containers[0].lines[0].get_xdata(orig=False), [1.0, 50.0])
    assert "teacher" in legend_of(plots["sparsity"].figure)
    (axis,) = plots["time"].figure.axes
    assert axis.get_xlabel() == "time in the solver (s)"


@pytest.mark.parametrize(
    "keys",
    [
        {"solver": [f"a_rather_long_name_{i}" for i in range(15)], "a.x": [1e-6, 1e-3, 1.0]},
        {"a.x": [10, 20, 30, 40, 50, 60], "a.y": [1e-5, 1e-4, 1e-3, 1e-2], "seed": [0, 1]},
        {"solver": [f"a_rather_long_name_{i}" for i in range(15)], "seed": [0, 1]},
        {"a.x": [1, 2], "a.y": [1, 2], "a.z": [1, 2], "a.w": [0.001, 1.0]},
    ],
)
def test_labels_stay_inside_and_apart(keys: Mapping[str, Sequence[object]]) -> None:
    for plot in choose_plots(runs(keys)):
        assert not _overlapping(plot), plot.name


def legend_of(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def _overlapping(plot: Plot) -> list[tuple[str, str]]:
    """Pairs of texts that lie on each other, and texts that leave the page."""
    figure = plot.figure
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    boxes = [
        (text.get_text(), text.get_window_extent(renderer))
        for text in _texts(figure)
        if text.get_visible() and text.get_text()
    ]
    page = figure.bbox
    outside = [
        (name, "page")
        for name, box in boxes
        if box.x0 < page.x0 - 1 or box.x1 > page.x1 + 1 or box.y0 < page.y0 - 1
    ]
    return outside + [
        (one, other)
        for (one, a), (other, b) in itertools.combinations(boxes, 2)
        if a.x0 < b.x1 - 1 and b.x0 < a.x1 - 1 and a.y0 < b.y1 - 1 and b.y0 < a.y1 - 1
    ]


def _texts(figure: Figure) -> Iterator[Text]:
    for legend in figure.legends:
        yield from legend.get_texts()
    for axes in figure.axes:
        if not axes.get_visible():
            continue
        yield axes.title
        yield from axes.texts
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            yield axis.label
            yield from (t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high)


@pytest.mark.parametrize(
    ("metric", "label"),
    [
        ("test_accuracy", "test accuracy (share of samples)"),
        ("test_top5_accuracy", "test top-5 accuracy (share of samples)"),
        ("sim.agreement", "agreement with the teacher (share of test samples)"),
        ("sim.seconds_ab", "time for A and B (s)"),
        ("something_else", "something_else"),
    ],
)
def test_a_metric_is_drawn_with_its_unit(metric: str, label: str) -> None:
    assert label_of(metric) == label
