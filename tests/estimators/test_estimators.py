"""scikit-learn's own checks, its tools around our estimators, and Lasso's optimum."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any
from unittest import SkipTest

import joblib
import numpy as np
import pytest
import sklearn.linear_model
from sklearn.datasets import load_diabetes, load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from idl_cli import ImplicitClassifier, ImplicitRegressor, RowLasso
from idl_cli.errors import ConvergenceWarning

SMALL = {"hidden_dim": 4, "epochs": 15, "batch_size": 256, "learning_rate": 0.1}
ESTIMATORS = {
    "classifier": ImplicitClassifier(**SMALL),
    "regressor": ImplicitRegressor(**SMALL),
    "row_lasso": RowLasso(alpha=1e-3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_own_checks(name: str) -> None:
    failed = []
    for estimator, check in estimator_checks_generator(ESTIMATORS[name]):
        try:
            check(estimator)
        except SkipTest:  # of what is not installed
            continue
        except Exception as error:
            failed.append(f"{check}: {type(error).__name__}: {error}")
    assert not failed, "\n".join(failed)


def test_pipelines_grid_search_and_joblib(tmp_path: Any) -> None:
    X, y = load_iris(return_X_y=True, as_frame=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    pipeline = make_pipeline(
        StandardScaler(),
        ImplicitClassifier(hidden_dim=4, epochs=15, learning_rate=0.1, random_state=0),
    )
    search = GridSearchCV(pipeline, {"implicitclassifier__kappa": [0.5, 0.9]}, cv=2)
    search.fit(X, names)
    assert search.best_score_ > 0.9
    probabilities = search.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    joblib.dump(search.best_estimator_, tmp_path / "model.joblib")
    again = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_array_equal(again.predict_proba(X), probabilities)
    assert set(again.predict(X)) <= set(names)


def test_a_seed_fixes_the_fit_and_leaves_torchs_generator_alone() -> None:
    import torch

    X, y = load_diabetes(return_X_y=True)
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, other = (
        ImplicitRegressor(**SMALL, random_state=1).fit(X, y).predict(X) for _ in range(2)
    )
    assert torch.equal(before, torch.random.get_rng_state())
    np.testing.assert_array_equal(first, other)
    assert ImplicitRegressor(**SMALL, random_state=1).fit(X, y).score(X, y) > 0.4


def problem(condition: float = 1.0) -> tuple[Any, Any]:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(60, 12)) * np.geomspace(1, condition, 12) + 3
    return X, X @ generator.normal(size=(12, 3)) + generator.normal(size=(60, 3))


def test_the_optimum_of_lasso_and_elastic_net() -> None:
    X, Y = problem()
    ours = RowLasso(alpha=0.3, tol=1e-12).fit(X, Y)
    theirs = sklearn.linear_model.Lasso(alpha=0.3, tol=1e-14, max_iter=100_000).fit(X, Y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-8)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-7)
    assert ours.gap_.shape == ours.dual_gap_.shape == (3,)
    assert ours.gap_.max() <= 1e-12 or ours.status_ == "at_precision"
    elastic = RowLasso(alpha=0.1, l2=0.2, tol=1e-12, fit_intercept=False).fit(X, Y[:, 0])
    net = sklearn.linear_model.ElasticNet(
        alpha=0.3, l1_ratio=1 / 3, tol=1e-14, max_iter=100_000, fit_intercept=False
    ).fit(X, Y[:, 0])
    np.testing.assert_allclose(elastic.coef_, net.coef_, atol=1e-8)


@pytest.mark.parametrize("solver", ["active_set", "admm"])
def test_a_budget_is_kept_and_the_gap_bounds_the_distance(solver: Any) -> None:
    X, Y = problem()
    exact = RowLasso(alpha=0.1, budget=1.5, tol=1e-10).fit(X, Y)
    rough = RowLasso(alpha=0.1, budget=1.5, tol=1e-3, solver=solver).fit(X, Y)

    def objectives(model: RowLasso) -> Any:
        residual = Y - model.predict(X)
        return (residual**2).sum(axis=0) / (2 * len(X)) + 0.1 * np.abs(model.coef_).sum(axis=1)

    for model in (exact, rough):
        assert np.abs(model.coef_).sum(axis=1).max() <= 1.5 * (1 + 1e-9)
    distance = objectives(rough) - objectives(exact)
    assert (distance <= rough.dual_gap_ + exact.dual_gap_).all()
    assert (rough.gap_ <= 1e-3).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: RowLasso(alpha=-1),
        lambda: RowLasso(budget=0.0),
        lambda: RowLasso(tol=2),
        lambda: RowLasso(solver="newton"),  # type: ignore[arg-type]
        lambda: ImplicitRegressor(kappa=1.5),
        lambda: ImplicitRegressor(activation="rellu"),
        lambda: ImplicitRegressor(epochs=0),
        lambda: ImplicitRegressor(learning_rate=-1.0),
    ],
)
def test_arguments_out_of_range_are_value_errors(make: Callable[[], Any]) -> None:
    X, Y = problem()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        with pytest.raises(ValueError, match=r"\w"):
            make().fit(X, Y[:, 0])
