import math
from typing import Any

import pytest

from idl_cli.errors import ArgumentError
from idl_cli.training.early_stopping import EarlyStopping
from idl_cli.training.settings import EarlyStoppingSettings
from tests.training.helpers import CLASSIFICATION, REGRESSION


def _follow(
    values: list[float], losses: list[float] | None = None, **settings: Any
) -> tuple[EarlyStopping, list[bool], int | None]:
    stopping = EarlyStopping(EarlyStoppingSettings(**settings), CLASSIFICATION)
    improved: list[bool] = []
    stopped = None
    for epoch, value in enumerate(values, 1):
        loss = losses[epoch - 1] if losses else 1.0
        improved.append(stopping.update({"loss": loss, stopping.metric: value}, epoch))
        if stopping.should_stop:
            stopped = epoch
            break
    return stopping, improved, stopped


def test_it_stops_after_patience_epochs_without_improvement() -> None:
    stopping, improved, stopped = _follow([0.1, 0.3, 0.2, 0.3, 0.9], patience=2)
    assert improved == [True, True, False, False]
    assert stopped == 4
    assert (stopping.best, stopping.best_epoch) == (0.3, 2)


def test_lower_is_better_for_a_loss() -> None:
    stopping, improved, _ = _follow([3.0, 2.0, 2.5, 1.0], metric="loss")
    assert improved == [True, True, False, True]
    assert (stopping.best, stopping.best_epoch) == (1.0, 4)


def test_small_steps_count_for_the_best_epoch_but_not_for_patience() -> None:
    stopping, improved, stopped = _follow([0.50, 0.55, 0.58, 0.59], patience=3, min_delta=0.2)
    assert improved == [True] * 4
    assert stopped == 4
    assert stopping.best_epoch == 4


def test_small_steps_add_up() -> None:
    assert _follow([0.5, 0.55, 0.61, 0.65, 0.72], patience=2, min_delta=0.1)[2] is None


def test_of_equal_values_the_lowest_loss_is_the_best() -> None:
    stopping, improved, _ = _follow([0.9, 0.9, 0.9, 0.9], losses=[1.0, 0.5, 0.7, math.nan])
    assert improved == [True, True, False, False]
    assert stopping.best_epoch == 2


def test_nan_is_never_an_improvement() -> None:
    stopping, improved, stopped = _follow([math.nan, 0.5, math.nan, math.nan], patience=2)
    assert improved == [False, True, False, False]
    assert stopped == 4
    assert stopping.best == 0.5


def test_without_patience_it_never_stops() -> None:
    assert _follow([0.0] * 50)[2] is None


def test_its_state_continues_it() -> None:
    values = [0.1, 0.4, 0.3, 0.4, 0.2, 0.3]
    for cut in range(len(values)):
        settings = EarlyStoppingSettings(patience=3)
        first = EarlyStopping(settings, CLASSIFICATION)
        for epoch in range(cut):
            first.update({"accuracy": values[epoch], "loss": 1.0}, epoch)
        second = EarlyStopping(settings, CLASSIFICATION)
        second.load_state_dict(first.state_dict())
        for epoch in range(cut, len(values)):
            figures = {"accuracy": values[epoch], "loss": 1.0}
            assert first.update(figures, epoch) == second.update(figures, epoch)
            assert first.state_dict() == second.state_dict()
            assert first.should_stop == second.should_stop


def test_metrics_of_the_other_task_are_refused() -> None:
    with pytest.raises(ArgumentError, match="a regression has loss, r2, mse"):
        EarlyStopping(EarlyStoppingSettings(metric="accuracy"), REGRESSION)
    with pytest.raises(ArgumentError, match="a classification has accuracy, loss"):
        EarlyStopping(EarlyStoppingSettings(metric="r2"), CLASSIFICATION)
    assert EarlyStopping(EarlyStoppingSettings(), REGRESSION).metric == "loss"
    assert EarlyStopping(EarlyStoppingSettings(), CLASSIFICATION).metric == "accuracy"
