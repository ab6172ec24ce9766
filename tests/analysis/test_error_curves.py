from __future__ import annotations

import io
import math

import numpy as np

from idl_cli.analysis.error_curves import ErrorCurve, curve_of_rows, error_curves
from idl_cli.analysis.forecast_curves import forecast_curves


def test_errors_are_drawn_against_the_shift_with_zeros_on_the_lower_edge() -> None:
    curves = [
        ErrorCurve("rnn", [1.0, 10.0], [[0.0, 0.02], [0.01, 0.04]]),
        ErrorCurve("lstm", [1.0, 10.0], [[0.5, math.nan]]),
    ]
    figure = error_curves(curves, training=2.0, shift_label="width f", error_label="error rate")
    (axis,) = figure.axes
    floor = 0.3 * 0.01
    rnn = axis.get_lines()[0]
    np.testing.assert_allclose(rnn.get_ydata(), [(floor + 0.01) / 2, 0.03])
    assert axis.get_ylim()[0] == floor
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
    assert axis.get_xlabel() == "width f"
    assert axis.get_ylabel().startswith("error rate (zeros at 0.003")
    legend = axis.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "rnn",
        "lstm",
        "training range (f = 2)",
    ]
    styles = {(line.get_linestyle(), line.get_marker()) for line in axis.get_lines()[:2]}
    assert len(styles) == 2, "curves differ in more than their colour"
    figure.savefig(io.BytesIO(), format="png")


def test_a_flat_curve_looks_flat() -> None:
    curve = ErrorCurve("rnn", [1.0, 10.0], [[0.030, 0.031]])
    (axis,) = error_curves([curve], training=2.0, shift_label="f", error_label="e").axes
    low, high = axis.get_ylim()
    assert high / low > 9.99


def test_rows_of_a_run_become_a_curve() -> None:
    curve = curve_of_rows("m", [{"shift": 10, "error": None}, {"shift": 1, "error": 0.25}])
    assert list(curve.shifts) == [1.0, 10.0]
    assert curve.errors[0][0] == 0.25
    assert math.isnan(curve.errors[0][1])


def test_forecast_and_truth_are_drawn_in_the_targets_unit() -> None:
    days = np.arange("2020-01-01", "2020-02-01", dtype="datetime64[D]")
    truth = np.linspace(10.0, 20.0, 31)
    figure = forecast_curves(days, truth, truth + 1, time_label="day", target="temp", step=3)
    (axis,) = figure.axes
    drawn_truth, drawn_forecast = axis.get_lines()
    np.testing.assert_array_equal(drawn_truth.get_ydata(), truth)
    np.testing.assert_array_equal(drawn_forecast.get_ydata(), truth + 1)
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("day", "temp")
    assert axis.get_title() == "test part, forecast 3 rows ahead"
    figure.savefig(io.BytesIO(), format="png")


def test_where_a_long_series_varies_most_is_enlarged() -> None:
    times = np.arange(1000.0)
    truth = np.where((times >= 300) & (times < 500), np.sin(times), 0.0)
    figure = forecast_curves(times, truth, truth, time_label="x", target="y", step=1)
    whole, lively = figure.axes
    assert len(np.asarray(whole.get_lines()[0].get_xdata())) == 1000
    np.testing.assert_array_equal(lively.get_lines()[0].get_xdata(), times[300:500])
