from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from idl_cli.data.dataset import Dataset
from idl_cli.data.loader import BatchLoader
from idl_cli.data.synthetic.extrapolation import argmax, arithmetic, identity
from idl_cli.evaluation.shift_evaluation import evaluate_shifts
from idl_cli.models.implicit import ImplicitModel

SHIFTS = (1.0, 100.0, 1e5)


class _Rule(nn.Module):
    """A model that has found the rule, or one that saturates beyond the training range."""

    def __init__(self, rule: Callable[[Tensor], Tensor], limit: float | None = None) -> None:
        super().__init__()
        self.rule = rule
        self.limit = limit

    def forward(self, inputs: Tensor) -> Tensor:
        numbers = inputs[:, :, 0]
        return self.rule(numbers if self.limit is None else numbers.clamp(-self.limit, self.limit))


def _rows(dataset: Dataset, model: nn.Module) -> list[dict[str, float]]:
    assert dataset.shifts is not None
    return evaluate_shifts(
        model,
        dataset.shifts,
        dataset.task,
        lambda part: BatchLoader(
            part, 64, preprocessing=dataset.preprocessing, shuffle=False, seed=0
        ),
    )


def _arithmetic(numbers: Tensor) -> Tensor:
    return (numbers[:, :5].sum(dim=1) * numbers[:, 5:].sum(dim=1))[:, None]


@pytest.mark.parametrize(
    ("dataset", "rule"),
    [
        (argmax(train_samples=20, test_samples=300, shifts=SHIFTS), lambda numbers: numbers),
        (identity(train_samples=20, test_samples=300, shifts=SHIFTS), lambda numbers: numbers),
        (
            arithmetic(operation="multiply", train_samples=20, test_samples=300, shifts=SHIFTS),
            _arithmetic,
        ),
    ],
    ids=["argmax", "identity", "arithmetic"],
)
def test_a_model_that_knows_the_rule_is_right_at_every_shift(
    dataset: Dataset, rule: Callable[[Tensor], Tensor]
) -> None:
    rows = _rows(dataset, _Rule(rule))
    assert [row["shift"] for row in rows] == list(SHIFTS)
    assert [row["distance"] for row in rows] == [0.0, 49.0, 49_999.0]
    # Exact but for the rounding of float32, whose square is below 1e-11 of the spread.
    assert all(row["error"] < 1e-11 for row in rows)


def test_a_model_that_saturates_fails_far_away() -> None:
    dataset = argmax(train_samples=20, test_samples=300, shifts=SHIFTS)
    rows = _rows(dataset, _Rule(lambda numbers: numbers, limit=1.0))
    assert rows[0]["error"] == 0.0
    assert rows[1]["error"] > 0.7
    assert rows[1]["error"] == 1.0 - rows[1]["accuracy"]


def test_solves_are_counted_for_each_shift_alone() -> None:
    torch.manual_seed(0)
    dataset = argmax(train_samples=20, test_samples=100, shifts=SHIFTS)
    rows = _rows(dataset, ImplicitModel(10, 10, 20))
    assert all(row["unconverged_share"] == 0.0 for row in rows)
    assert all(row["iterations_mean"] <= row["iterations_max"] for row in rows)
