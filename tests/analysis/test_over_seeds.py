from __future__ import annotations

import pytest

from idl_cli.analysis.over_seeds import ShiftedRun, curves_over_seeds, table_over_seeds


def _row(shift: float, error: float | None, **more: float) -> dict[str, object]:
    return {"shift": shift, "distance": shift - 1, "error": error, **more}


RUNS = [
    ShiftedRun("rnn", [_row(1, 0.1, unconverged_share=0.0), _row(10, 0.2, unconverged_share=0.5)]),
    ShiftedRun("rnn", [_row(1, 0.3, unconverged_share=0.1), _row(10, 0.6, unconverged_share=0.0)]),
    ShiftedRun("lstm", [_row(10, 0.8), _row(1, 0.5)]),
]


def test_means_sample_deviations_and_worst_cases() -> None:
    first, second, third, fourth = table_over_seeds(RUNS)
    assert (first["variant"], first["shift"], first["runs"]) == ("rnn", 1.0, 2)
    assert first["error_mean"] == pytest.approx(0.2)
    assert first["error_std"] == pytest.approx(0.2 / 2**0.5)
    assert first["unconverged_share_max"] == 0.1
    assert second["error_mean"] == pytest.approx(0.4)
    assert second["unconverged_share_max"] == 0.5
    assert (third["shift"], third["error_mean"], third["error_std"]) == (1.0, 0.5, None)
    assert "unconverged_share_max" not in third
    assert fourth["distance"] == 9


def test_a_figure_that_is_no_number_in_one_run_has_no_mean() -> None:
    runs = [ShiftedRun("rnn", [_row(1, 0.1)]), ShiftedRun("rnn", [_row(1, None)])]
    (row,) = table_over_seeds(runs)
    assert (row["error_mean"], row["error_std"], row["runs"]) == (None, None, 2)


def test_the_size_of_a_model_stands_beside_its_errors() -> None:
    runs = [ShiftedRun(name, [_row(1, 0.1)], size) for name, size in [("a", 1850), ("a", 1850)]]
    runs += [ShiftedRun("b", [_row(1, 0.1)], size) for size in (7, 9)]
    assert [row["parameters"] for row in table_over_seeds(runs)] == [1850, None]
    assert [curve.label for curve in curves_over_seeds(runs)] == ["a (1,850 parameters)", "b"]


def test_only_shifts_of_all_runs_are_combined() -> None:
    runs = [ShiftedRun("rnn", [_row(1, 0.1), _row(5, 0.2)]), ShiftedRun("rnn", [_row(5, 0.4)])]
    assert [row["shift"] for row in table_over_seeds(runs)] == [5.0]


def test_curves_hold_every_run_in_order_of_the_shift() -> None:
    rnn, lstm = curves_over_seeds(RUNS)
    assert (rnn.label, list(rnn.shifts), list(rnn.errors)) == (
        "rnn",
        [1.0, 10.0],
        [[0.1, 0.2], [0.3, 0.6]],
    )
    assert list(lstm.errors) == [[0.5, 0.8]]
