"""Picard iterations for many samples of few states, as the steps of a recurrence have them.

For a few dozen states an iteration takes microseconds, and what stands around it decides the time.
The stopping rule is that of the general driver (``fixed_point``): the relative residual of each
sample. What differs:

- Tensors are (m, n) with the states apart in memory and the samples of one state side by side
  (``state_major``): maxima over the states are then vector operations. For 10,000 samples of 20
  states they take a twentieth of the time.
- A sample that has converged is iterated on with the others, and only becomes more accurate, until
  the unfinished ones are the minority and go on alone: setting samples aside costs about as much
  as an iteration. So a sample's value depends on its batch, within the tolerance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from idl_cli.equilibrium.fixed_point import (
    FixedPointResult,
    FixedPointSettings,
    SampleMap,
    SolveStatus,
)
from idl_cli.equilibrium.operators import Operator

# Unfinished samples go on alone once no more than this share of those iterated on is unfinished.
_COMPACTION_SHARE = 0.5


def state_major(samples: int, states: int, like: Tensor) -> Tensor:
    """Return an empty (samples, states) tensor with each state's samples side by side."""
    return like.new_empty(states, samples).t()


def select(x: Tensor, samples: Tensor) -> Tensor:
    """Return the rows of x (m, n) at these indices (k,), state-major."""
    return x.t().index_select(1, samples).t()


@torch.no_grad()
def least_iterations(operator: Operator, tol: float) -> int:
    """Estimate from A alone how many iterations a solve takes at least, to look no earlier.

    If half of the states are active and A were a random matrix, an iteration would contract by
    about ‖A‖_F / √(2n) (the circular law); trained matrices have directions that contract slower.

    Args:
        operator: A.
        tol: the tolerance, in (0, 1).
    """
    if len(operator.factors) == 1:
        norm = torch.linalg.matrix_norm(operator.factors[0])
    else:
        left, right = operator.factors
        norm = ((left.t() @ left) * (right.t() @ right)).sum().clamp(min=0).sqrt()
    rate = float(norm) / math.sqrt(2 * operator.size)
    if not 0 < rate < 1 or not tol < 1:
        return 2
    return max(2, min(int(math.log(tol) / math.log(rate)), 20))


@torch.no_grad()
def solve_narrow(
    function: SampleMap,
    start: Tensor,
    settings: FixedPointSettings,
    *,
    scale: Tensor | None = None,
    first_check: int = 2,
) -> FixedPointResult:
    """Solve x = f(x) for every sample by x ← f(x).

    Args:
        function: f; writes into the ``out`` it is given.
        start: first iterates (m, n), state-major; not overwritten.
        settings: tolerance and limit; the method is Picard whatever they say.
        scale: what each sample's ‖f(x) − x‖∞ is divided by (m,); 1 + ‖x‖∞ where it is None.
        first_check: the first iteration whose residual is looked at, >= 1.
    """
    found = _iterate(function, start, settings, scale, 0, first_check)
    value, residuals, iterations = found.value, found.residuals, found.iterations
    if found.converged:
        every = torch.ones(len(value), dtype=torch.bool, device=value.device)
        return FixedPointResult(value, iterations, residuals, every, SolveStatus.CONVERGED)
    finite = bool(residuals.isfinite().all())
    status = SolveStatus.MAX_ITERATIONS if finite else SolveStatus.NON_FINITE
    return FixedPointResult(value, iterations, residuals, residuals <= settings.tol, status)


@dataclass(frozen=True)
class _Found:
    """Values, residuals and iterations of a solve, and whether every sample converged."""

    value: Tensor
    residuals: Tensor
    iterations: Tensor
    converged: bool


def _iterate(
    function: SampleMap,
    x: Tensor,
    settings: FixedPointSettings,
    scale: Tensor | None,
    iteration: int,
    next_check: int,
) -> _Found:
    samples, states = x.shape
    image, spare = (state_major(samples, states, x) for _ in range(2))
    limit, tol = settings.max_iter, settings.tol
    while True:
        iteration += 1
        following = function(x, image)
        if iteration < next_check and iteration < limit:
            x, image, spare = following, spare, image
            continue
        residual = _residual(x, following, scale)
        running = residual > tol
        count = int(torch.count_nonzero(running))
        if count == 0 or iteration >= limit:
            # A NaN residual is not above the tolerance: that sample is finished, and failed.
            iterations = torch.full((samples,), iteration, device=x.device)
            converged = count == 0 and bool(residual.amax() <= tol)
            return _Found(x, residual, iterations, converged)
        next_check = iteration + max(2, iteration // 5)
        if count <= _COMPACTION_SHARE * samples:
            break
        x, image, spare = following, spare, image
    kept = running.nonzero().squeeze(1)
    rest = _iterate(
        function.restrict(kept),
        select(following, kept),
        settings,
        None if scale is None else scale[kept],
        iteration,
        next_check,
    )
    iterations = torch.full((samples,), iteration, device=x.device)
    return _Found(
        x.clone().index_copy_(0, kept, rest.value),
        residual.index_copy_(0, kept, rest.residuals),
        iterations.index_copy_(0, kept, rest.iterations),
        rest.converged and bool(residual.isfinite().all()),
    )


def _residual(x: Tensor, image: Tensor, scale: Tensor | None) -> Tensor:
    difference = (image - x).abs_().amax(dim=1)
    if scale is not None:
        return difference.div_(scale)
    return difference.div_(x.abs().amax(dim=1).add_(1))
