"""A time limit holds within a row of the general-purpose solver, and between two of its rows."""

from __future__ import annotations

import time
from dataclasses import replace

import cvxpy
import numpy as np
import pytest
import torch

from idl_cli.errors import ConvergenceWarning
from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.solve import solve
from idl_cli.sim.solvers.cvx import CVXSolver
from idl_cli.sim.solvers.cvx_rows import CompiledRow, RowShape

SHAPE = RowShape(
    gram=np.array([[1.0, 0.5], [0.5, 1.0]]),
    cost=np.ones(2),
    penalised=True,
    budget=0,
    backends=("CLARABEL",),
    accuracy=1e-9,
    threads=1,
)
ROW = (np.array([1.0, 0.0]), 0.1, 0.0)


@pytest.mark.parametrize("backend", sorted({"CLARABEL", "SCS", "OSQP", "HIGHS"}))
def test_every_backend_takes_a_time_limit(backend: str) -> None:
    if backend not in cvxpy.installed_solvers():
        pytest.skip(f"{backend} is not installed")
    shape = replace(SHAPE, backends=(backend,), deadline=time.monotonic() + 60)
    answer = CompiledRow(shape).solve(*ROW)
    free = CompiledRow(replace(shape, deadline=None)).solve(*ROW)
    assert answer.value is not None
    assert free.value is not None
    np.testing.assert_array_equal(answer.value, free.value)


def test_nothing_is_tried_past_the_deadline() -> None:
    answer = CompiledRow(replace(SHAPE, deadline=time.monotonic())).solve(*ROW)
    assert answer.value is None
    assert answer.statuses == ()


def test_a_row_ends_at_the_deadline() -> None:
    """400 variables take a second or more; a limit of a thousandth is over within the row."""
    generator = np.random.default_rng(0)
    states = generator.normal(size=(400, 400))
    shape = replace(SHAPE, gram=states @ states.T, cost=np.ones(400))
    compiled = CompiledRow(replace(shape, deadline=time.monotonic() + 1e-3))
    answer = compiled.solve(generator.normal(size=400), 0.1, 0.0)
    assert answer.value is None
    assert len(answer.statuses) <= 1


@pytest.mark.parametrize("processes", [1, 2])
def test_rows_that_were_not_done_are_zero_and_said(processes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(200, 60, generator=generator, dtype=torch.float64)
    targets = torch.randn(200, 300, generator=generator, dtype=torch.float64)
    problem = RowRegression(
        states.T @ states, targets.T @ states, targets.square().sum(dim=0), l1=0.1
    )
    with pytest.warns(ConvergenceWarning):
        solution = solve(problem, CVXSolver(processes=processes), max_time=0.05)
    assert solution.iterations < 30  # the clock used to be read after every tenth of the rows
    assert not solution.weights[solution.iterations :].any()
    assert any("rows not done: their weights are zero" in note for note in solution.notes)
