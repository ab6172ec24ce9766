"""Accuracy against sparsity: what the axes say."""

from __future__ import annotations

from idl_cli.analysis.path_plot import path_figure


def test_both_axes_name_their_unit() -> None:
    rows = [
        {"method": "SIM", "nonzeros": nonzeros, "test_accuracy": nonzeros / 200, "test_r2": 0.5}
        for nonzeros in (10, 100)
    ]
    sizes = {"teacher": 0.9, "teacher_nonzeros": 200, "teacher_parameters": 200}
    axis = path_figure(rows, score="test_accuracy", **sizes).axes[0]
    assert axis.get_ylabel() == "test accuracy (share of samples)"
    assert axis.get_xlabel().endswith("/ parameters of the teacher (200)")
    assert path_figure(rows, score="test_r2", **sizes).axes[0].get_ylabel() == "test R²"
