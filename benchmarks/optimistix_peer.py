"""JAX's optimistix as a contestant of ``benchmarks.equilibria``, where it is installed.

Plain steps on the whole batch and GMRES for the adjoint (a dense factorisation would be of all
samples at once), compiled before any time is taken. It stops by |f(x) − x| relative to each state.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import torch

from benchmarks.equilibria_cases import MAX_ITER, TOL, Case, Solve


def installed() -> bool:
    """Whether all that it needs is there."""
    return all(find_spec(name) for name in ("jax", "jaxlib", "equinox", "lineax", "optimistix"))


def optimistix(case: Case, tol: float = TOL) -> Solve:
    """Return its solve of a matrix, to its tolerances ``tol``; NaN where a solve fails."""
    os.environ.setdefault("EQX_ON_ERROR", "nan")  # as equinox reads it when it is imported
    if torch.get_num_threads() == 1:
        single = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        os.environ.setdefault("XLA_FLAGS", single)
    import jax
    import lineax
    import numpy as np
    from optimistix import FixedPointIteration, ImplicitAdjoint, fixed_point

    parameter, offset, gradient = (
        jax.numpy.asarray(each.numpy()) for each in (case.parameter, case.offset, case.gradient)
    )
    steps = FixedPointIteration(rtol=tol, atol=tol)
    adjoint = ImplicitAdjoint(linear_solver=lineax.GMRES(rtol=tol, atol=tol))

    def state(A: Any, b: Any) -> Any:
        return fixed_point(
            lambda x, weights: jax.nn.relu(x @ weights[0].T + weights[1]),
            steps,
            jax.numpy.zeros_like(offset),
            (A, b),
            adjoint=adjoint,
            max_steps=MAX_ITER,
            throw=False,
        ).value

    def both(A: Any, b: Any) -> Any:
        x, pulled = jax.vjp(state, A, b)
        return x, pulled(gradient)

    compiled = jax.jit(both)

    def solve() -> tuple[torch.Tensor, torch.Tensor]:
        x, (_, v) = jax.block_until_ready(compiled(parameter, offset))
        return torch.from_numpy(np.array(x)), torch.from_numpy(np.array(v))

    solve()
    return solve
