"""Picard iterations for many samples of few states, as the steps of a recurrence have them.

For a few dozen states an iteration takes microseconds, and what stands around it decides the time.
The stopping rule is that of the general driver (``fixed_point``): the relative residual of each
sample. What differs:

- Tensors are (m, n) with the states apart in memory and the samples of one state side by side
  (``state_major``): maxima over the states are then vector operations. For 10,000 samples of 20
  states they take a twentieth of the time.
- Neighbouring steps take about as many iterations. The residuals are first looked at when those
  of the step before were small enough.
- A sample that has converged is iterated on with the others, and only becomes more accurate, until
  the unfinished ones of a large batch are the minority and go on alone.

So which iterate of a sample is returned depends on its batch; that it meets the tolerance does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from idl_cli.equilibrium.fixed_point import SampleMap, SolveStatus
from idl_cli.equilibrium.operators import Operator

# Unfinished samples go on alone once no more than this share of those iterated on is unfinished,
_COMPACTION_SHARE = 0.5
# and these have so many values: below, an iteration takes no longer than its overhead.
_COMPACTION_SIZE = 8192


def state_major(samples: int, states: int, like: Tensor) -> Tensor:
    """Return an empty (samples, states) tensor with each state's samples side by side."""
    return like.new_empty(states, samples).t()


def select(x: Tensor, samples: Tensor) -> Tensor:
    """Return the rows of x (m, n) at these indices (k,), state-major."""
    return x.t().index_select(1, samples).t()


@dataclass(frozen=True)
class NarrowResult:
    """What one solve found.

    Attributes:
        value: the fixed points (m, n), in a buffer that the next solve overwrites.
        residuals: relative residual of each (m,).
        iterations: evaluations spent: one number for all samples, or one each (m,).
        status: the worst of the samples' outcomes.
    """

    value: Tensor
    residuals: Tensor
    iterations: int | Tensor
    status: SolveStatus


class NarrowPicard:
    """Solves one equilibrium after another by x ← f(x).

    Args:
        operator: A, from which it is estimated how long the first solve takes at least.
        samples: most samples of a solve.
        like: a tensor of the dtype and device of all that follows.
        max_iter: most evaluations of f, >= 1.
        tol: largest relative residual of a converged sample.
    """

    def __init__(
        self, operator: Operator, samples: int, like: Tensor, *, max_iter: int, tol: float
    ) -> None:
        self._max_iter = max_iter
        self._tol = tol
        self._buffers = [state_major(samples, operator.size, like) for _ in range(2)]
        self._expected = _least_iterations(operator, tol)

    def solve(
        self, function: SampleMap, start: Tensor, scale: Tensor | None = None
    ) -> NarrowResult:
        """Solve x = f(x) for every sample.

        Args:
            function: f; writes into the ``out`` it is given.
            start: first iterates (m, n), state-major; not overwritten.
            scale: what each sample's ‖f(x) − x‖∞ is divided by (m,); 1 + ‖x‖∞ where it is None.
        """
        return self._iterate(function, start, scale, 0, self._expected)

    def _iterate(
        self,
        function: SampleMap,
        x: Tensor,
        scale: Tensor | None,
        iteration: int,
        next_check: int,
    ) -> NarrowResult:
        samples, states = x.shape
        image, spare = (buffer[:samples] for buffer in self._buffers)
        next_check = min(next_check, self._max_iter)
        while True:
            for _ in range(next_check - iteration - 1):
                x, image, spare = function(x, image), spare, image
            iteration = next_check
            following = function(x, image)
            residual = _residual(x, following, scale)
            worst = float(residual.amax())
            if not worst > self._tol or iteration == self._max_iter:
                return self._finish(x, residual, worst, iteration)
            next_check = min(self._after(iteration, worst), self._max_iter)
            if samples * states >= _COMPACTION_SIZE:
                running = residual > self._tol
                if int(torch.count_nonzero(running)) <= _COMPACTION_SHARE * samples:
                    break
            x, image, spare = following, spare, image
        kept = running.nonzero().squeeze(1)
        value = x.clone()
        rest = self._iterate(
            function.restrict(kept),
            select(following, kept),
            None if scale is None else scale[kept],
            iteration,
            next_check,
        )
        iterations = torch.full((samples,), iteration, device=x.device)
        if isinstance(rest.iterations, int):
            iterations.index_fill_(0, kept, rest.iterations)
        else:
            iterations.index_copy_(0, kept, rest.iterations)
        return NarrowResult(
            value.index_copy_(0, kept, rest.value),
            residual.index_copy_(0, kept, rest.residuals),
            iterations,
            rest.status,
        )

    def _after(self, iteration: int, worst: float) -> int:
        """Return when to look again: soon where little is missing, else a fifth further."""
        return iteration + (1 if worst < 4 * self._tol else max(2, iteration // 5))

    def _finish(self, x: Tensor, residual: Tensor, worst: float, iteration: int) -> NarrowResult:
        # A maximum with a NaN among its terms is NaN, which is not above the tolerance.
        if worst <= self._tol:
            status = SolveStatus.CONVERGED
        elif math.isfinite(worst):
            status = SolveStatus.MAX_ITERATIONS
        else:
            status = SolveStatus.NON_FINITE
        self._expected = max(2, iteration - (1 if worst < self._tol / 4 else 0))
        return NarrowResult(x, residual, iteration, status)


def _least_iterations(operator: Operator, tol: float) -> int:
    """Estimate from A how many iterations a solve takes at least.

    If half of the states are active and A were a random matrix, an iteration would contract by
    about ‖A‖_F / √(2n) (the circular law); trained matrices have directions that contract slower.
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


def _residual(x: Tensor, image: Tensor, scale: Tensor | None) -> Tensor:
    difference = (image - x).abs_().amax(dim=1)
    if scale is not None:
        return difference.div_(scale)
    return difference.div_(x.abs().amax(dim=1).add_(1))
