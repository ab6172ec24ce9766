from __future__ import annotations

import json

import pytest

from idl_cli.data.task import Task


@pytest.mark.parametrize(
    "task",
    [
        Task("classification", (3, 32, 32), 2, ("cat", "dog")),
        Task("regression", (5,), 4),
    ],
)
def test_a_task_survives_json(task: Task) -> None:
    assert Task.from_dict(json.loads(json.dumps(task.to_dict()))) == task


def test_input_dim_is_that_of_a_flattened_sample() -> None:
    assert Task("regression", (3, 4, 5), 1).input_dim == 60
