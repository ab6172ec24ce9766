from __future__ import annotations

import math
from statistics import stdev

import pytest

from idl_cli.analysis.columns import (
    as_data,
    columns_of,
    headings,
    is_numeric,
    matching,
    number,
    text,
    with_deviation,
)
from idl_cli.analysis.comparison import (
    Entry,
    Spread,
    averaged,
    figures_in,
    flatten,
    ordered,
    varying_keys,
)
from idl_cli.analysis.ranking import is_higher_better, ranking_metric


def run(
    name: str, status: str = "completed", *, error: str | None = None, **values: object
) -> Entry:
    """A run: its keys are those with a dot (``__`` here), ``seed`` and groups."""
    named = {key.replace("__", "."): value for key, value in values.items()}
    groups = ("seed", "solver", "model", "dataset")
    keys = {key: value for key, value in named.items() if "." in key or key in groups}
    figures = {key: value for key, value in named.items() if key not in keys}
    aside = frozenset({"dataset.root"})
    return Entry(name, name, status, "train", keys, figures, error, aside=aside)


def test_components_stand_under_their_group() -> None:
    nested = {"solver": {"name": "admm", "rho": 1.0}, "seed": 3, "a": {"b": {"c": [1, 2]}}}
    assert flatten(nested) == {"solver": "admm", "solver.rho": 1.0, "seed": 3, "a.b.c": (1, 2)}


def test_figures_are_numbers_and_words_but_not_lists() -> None:
    summary = {
        "status": "completed",
        "seed": 1,
        "seconds": 2.5,
        "metrics": {"test_accuracy": 0.5},
        "sim": {"ab": {"status": "optimal", "notes": ["x"], "relative_gap": None}},
    }
    expected = {"test_accuracy": 0.5, "sim.ab.status": "optimal", "seconds": 2.5}
    assert figures_in(summary) == expected


def test_runs_are_told_apart_by_what_differs_and_not_by_what_follows_from_it() -> None:
    entries = [
        run("a", solver="admm", solver__rho=1.0, solver__max_iter=10, dataset__root="x", seed=1),
        run("b", solver="admm", solver__rho=2.0, solver__max_iter=10, dataset__root="y", seed=0),
        run("c", solver="cvx", solver__max_iter=50, dataset__root=None, seed=0),
    ]
    assert varying_keys(entries) == ["solver", "solver.rho", "seed"]
    assert varying_keys(entries[:1]) == []


def test_one_and_one_point_zero_are_the_same_but_true_is_not() -> None:
    assert varying_keys([run("a", model__x=1), run("b", model__x=1.0)]) == []
    assert varying_keys([run("a", model__x=1), run("b", model__x=True)]) == ["model.x"]


def test_the_best_stands_first_and_runs_without_the_figure_last() -> None:
    entries = [
        run("failed", "failed"),
        run("low", test_accuracy=0.2),
        run("high", test_accuracy=0.9),
    ]
    assert [each.run for each in ordered(entries)] == ["high", "low", "failed"]
    errors = [run("a", test_mse=3.0), run("b", test_mse=1.0)]
    assert [each.run for each in ordered(errors)] == ["b", "a"]
    assert [each.run for each in ordered(entries, descending=False)] == ["low", "high", "failed"]
    by_name = ordered(entries, "run")
    assert [each.run for each in by_name] == ["failed", "high", "low"]


def test_what_is_no_number_stands_behind_the_numbers() -> None:
    entries = [
        run("word", test_accuracy="0.95"),
        run("nan", test_accuracy=float("nan")),
        run("low", test_accuracy=0.2),
        run("none"),
        run("high", test_accuracy=0.9),
    ]
    assert [each.run for each in ordered(entries)] == ["high", "low", "word", "nan", "none"]
    ascending = ordered(entries, "test_accuracy", descending=False)
    assert [each.run for each in ascending] == ["low", "high", "word", "nan", "none"]


def test_direction_of_a_figure() -> None:
    assert is_higher_better("sim.agreement") is True
    assert is_higher_better("sim.ab.relative_gap") is False
    assert is_higher_better("model.hidden_dim") is None
    assert is_higher_better("certified_accuracy_0.01") is True
    assert ranking_metric([{}, {"test_mse": 1}, {"test_r2": 0.5}]) == "test_r2"
    assert ranking_metric([{}]) is None


def test_means_and_sample_deviations_over_seeds() -> None:
    values = (0.5, 0.75, 0.7)
    entries = [
        run(f"a{seed}", model="x", seed=seed, test_accuracy=value, word="same")
        for seed, value in enumerate(values)
    ]
    entries.append(run("a3", "failed", model="x", seed=3, error="stopped"))
    entries.append(run("b0", model="y", seed=0, test_accuracy=0.1, word="other"))
    entries.append(run("c0", "killed", model="z", seed=0))
    first, second, third = averaged(entries, ("seed",))
    spread = first.figures["test_accuracy"]
    assert isinstance(spread, Spread)
    assert spread.mean == pytest.approx(sum(values) / 3)
    assert spread.deviation == pytest.approx(stdev(values))
    assert (first.runs, first.failed, first.error) == (3, 1, "a3: stopped")
    assert first.figures["word"] == "same"
    assert "seed" not in first.keys
    assert second.figures["test_accuracy"] == Spread(0.1, None)
    assert (third.run, third.status) == ("c0", "killed"), "no run of its kind completed"


def test_a_figure_that_one_run_lacks_or_that_is_not_finite_has_no_mean() -> None:
    entries = [
        run("a", seed=0, test_accuracy=0.5, test_loss=1.0),
        run("b", seed=1, test_accuracy=0.6, test_loss=math.nan),
        run("c", seed=2, test_accuracy=0.7),
    ]
    (combined,) = averaged(entries, ("seed",))
    assert set(combined.figures) == {"test_accuracy"}


def test_columns_shown_and_by_importance() -> None:
    entries = [
        run("a", solver="cvx", seed=0, test_accuracy=0.5, seconds=1.0),
        run("b", "failed", solver="admm", seed=0, error="x"),
    ]
    columns = columns_of(entries)
    assert columns.shown == ("run", "status", "solver", "test_accuracy", "seconds")
    assert columns.important == ("run", "status", "test_accuracy", "solver", "seconds")


def test_a_column_is_named_by_its_last_parts_where_that_is_enough() -> None:
    columns = columns_of(
        [
            run("a", trainer__lambda_z=1.0, sim__lambda_z=1.0),
            run("b", sim__ab__gap=1, sim__cd__gap=2),
        ]
    )
    assert matching("trainer.lambda_z", columns) == "trainer.lambda_z"
    assert matching("ab.gap", columns) == "sim.ab.gap"
    assert matching("gap", columns) is None
    assert matching("nosuch", columns) is None
    assert headings(["run", "a.x", "b.x", "b.y"]) == ["run", "a.x", "b.x", "y"]
    stages = ["status", "sim.ab.status", "sim.kappa"]
    assert headings(stages) == ["status", "ab.status", "kappa"]


def test_proven_figures_are_shown_and_a_radius_keeps_its_dot() -> None:
    figures = {"test_accuracy": 0.9, "certified_accuracy_0.01": 0.8, "attacked_accuracy_0.01": 0.85}
    entries = [
        Entry(name, name, "completed", "certify", {"seed": 0}, figures, None, aside=frozenset())
        for name in "ab"
    ]
    shown = columns_of(entries).shown
    assert {"certified_accuracy_0.01", "attacked_accuracy_0.01"} <= set(shown)
    assert headings(["model.kappa", "certified_accuracy_0.01"]) == [
        "kappa",
        "certified_accuracy_0.01",
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.97333333, "0.9733"),
        (1e-6, "1e-6"),
        (1.2345e-7, "1.23e-7"),
        (12, "12"),
        (0.0, "0"),
        (22999.7, "23000"),
    ],
)
def test_numbers_in_few_digits(value: float, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize(
    ("mean", "deviation", "shown"),
    [
        (0.94312, 0.00314, "0.9431 ± 0.0031"),
        (166.62, 4.54, "166.6 ± 4.5"),
        (1234.5, 120.0, "1234 ± 120"),
        (0.5, 0.0, "0.5 ± 0"),
        (0.5, None, "0.5"),
        (1.5e-9, 2e-10, "1.5e-09 ± 2e-10"),
    ],
)
def test_a_mean_has_the_digits_its_deviation_allows(
    mean: float, deviation: float | None, shown: str
) -> None:
    assert with_deviation(mean, deviation) == shown


def test_values_as_people_read_them() -> None:
    assert text(True) == "true"
    assert text(0.0347, "sim.nonzero_fraction") == "3.5 %"
    assert text((1, 2.5)) == "[1, 2.5]"
    assert text(None) == ""


def test_data_have_mean_and_deviation_in_columns_of_their_own() -> None:
    entry = Entry("a", "a", "completed", figures={"x": Spread(1.0, None), "y": 2})
    assert as_data(entry, ["run", "x", "y"]) == {"run": "a", "x_mean": 1.0, "x_std": None, "y": 2}
    assert is_numeric("x", [entry])
    assert not is_numeric("run", [entry])


def test_runs_of_another_task_show_their_own_metric() -> None:
    entries = [
        run("a", dataset="digits", test_accuracy=0.9, test_loss=0.3),
        run("b", dataset="spiky", test_r2=0.7, test_loss=0.1),
        run("c", "failed", dataset="spiky"),
    ]
    shown = columns_of(entries).shown
    assert [column for column in shown if column.startswith("test_")] == [
        "test_accuracy",
        "test_r2",
    ]
