"""The driver of iterations on many samples of few states, as the steps of a recurrence have them.

For a few dozen states an iteration takes microseconds, and what stands around it decides the time.
The stopping rule is that of the general driver (``fixed_point``). What differs:

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
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from idl_cli.equilibrium.recurrence.iterations import StepIterations
from idl_cli.equilibrium.residual import Change, Summed, reachable
from idl_cli.equilibrium.result import SolveStatus

# Unfinished samples go on alone once no more than this share of those iterated on is unfinished,
_COMPACTION_SHARE = 0.5
# those have so many values (below, an iteration takes no longer than its overhead),
_COMPACTION_SIZE = 8192
# and the worst residual is so many tolerances (below, a few iterations settle it).
_COMPACTION_DISTANCE = 10

# The next solve is looked at one iteration earlier where the worst residual was below this many
# tolerances. On few values a look takes as long as four iterations: one iteration too many costs
# less than a look too early.
_ROOM_OF_MANY = 0.6
_ROOM_OF_FEW = 0.2

# After a solve in which single states lagged, so many are not looked at earlier than it ended.
_PATIENCE = 8


def state_major(samples: int, states: int, like: Tensor) -> Tensor:
    """Return an empty (samples, states) tensor with each state's samples side by side."""
    return like.new_empty(states, samples).t()


@dataclass(frozen=True)
class NarrowResult:
    """What one solve found.

    Attributes:
        value: the fixed points (m, n), in memory that the next solve may overwrite.
        residuals: relative residual of each (m,).
        iterations: evaluations spent: one number for all samples, or one each (m,).
        status: the worst of the samples' outcomes.
    """

    value: Tensor
    residuals: Tensor
    iterations: int | Tensor
    status: SolveStatus


class NarrowDriver:
    """Drives one solve after another, and remembers when the last ones had converged.

    Args:
        max_iter: most evaluations, >= 1.
        tol: largest relative residual of a converged sample.
        first_check: the iteration of the first solve whose residual is looked at first, >= 1.
    """

    def __init__(self, *, max_iter: int, tol: float, first_check: int) -> None:
        self._max_iter = max_iter
        self._tol = tol
        # When to look first: with all samples, and after each time that samples were left behind.
        self._expected = [first_check]
        self._patience = 0

    def solve(self, iterations: StepIterations, scale: Tensor | None = None) -> NarrowResult:
        """Iterate until every sample has converged or ``max_iter`` is reached.

        Args:
            iterations: at their start.
            scale: what each sample's ‖f(x) − x‖∞ is divided by (m,); its own size where it is None.
        """
        return self._solve(iterations, scale, 0, 0)

    def _solve(
        self, iterations: StepIterations, scale: Tensor | None, done: int, level: int
    ) -> NarrowResult:
        expected = self._expected
        if level == len(expected):
            expected.append(done + max(2, done // 3))
        check = min(max(expected[level], done + 1), self._max_iter)
        summed = iterations if isinstance(iterations, Summed) else None
        before, stuck, lagged = math.inf, False, False
        while True:
            iterations.advance(check - done - 1)
            x, image = iterations.check()
            steps, done = check - done, check
            tol = reachable(self._tol, x.dtype)
            value = x if summed is None else image
            change = Change.of(x, image, scale)
            residual = change.residual
            worst = float(residual.amax())
            many = x.numel() >= _COMPACTION_SIZE
            last, lagging = done == self._max_iter, False
            if summed is not None and worst <= tol:
                slack = change.slack(tol, summed, residual > tol)
                lagging = float(slack.amin()) < 0
                if lagging and (lagged or last):
                    change.raise_lagging(tol, summed, slack)
                    worst = float(residual.amax())
                    lagging = worst > tol
            failed = math.isnan(worst)  # as a maximum with a NaN among its terms is
            if (worst <= tol and not lagging) or (last and not failed):
                room = _ROOM_OF_MANY if many else _ROOM_OF_FEW
                if lagged:
                    self._patience = _PATIENCE
                self._patience -= 1
                early = worst < room * tol and self._patience < 0
                expected[level] = max(2, done - early)
                return NarrowResult(value, residual, done, _status(worst, tol))
            # Small states among large ones, and rounding, are settled by the steps of the equation
            # itself, which the checks are.
            stuck = stuck or (steps > 1 and worst >= before)
            lagged |= lagging
            plain = lagging or stuck or worst < 4 * reachable(0, x.dtype)
            before = worst
            if failed or (many and worst >= _COMPACTION_DISTANCE * tol):
                running = residual > tol
                count = int(torch.count_nonzero(running))
                left = failed or count <= _COMPACTION_SHARE * len(x)
                if left and summed is not None:
                    running.logical_or_(change.slack(tol, summed, running) < 0)
                    count = int(torch.count_nonzero(running))
                if failed and (last or count == 0):
                    return NarrowResult(value, residual, done, SolveStatus.NON_FINITE)
                if failed or count <= _COMPACTION_SHARE * len(x):
                    break
                check = done + (1 if plain else max(2, done // 6))
            else:
                near = worst < 3 * tol and many
                check = done + (1 if near or plain else max(2, done // 6))
            check = min(check, self._max_iter)
        expected[level] = max(2, done - (count < 0.7 * _COMPACTION_SHARE * len(x)))
        kept = running.nonzero().squeeze(1)
        value = value.clone()
        iterations.restrict(kept)
        rest = self._solve(iterations, None if scale is None else scale[kept], done, level + 1)
        merged = _merged(value, residual, done, rest, kept)
        # A sample whose residual is not a number is given up, and the others go on.
        return replace(merged, status=SolveStatus.NON_FINITE) if failed else merged


def _status(worst: float, tol: float) -> SolveStatus:
    if worst <= tol:
        return SolveStatus.CONVERGED
    return SolveStatus.MAX_ITERATIONS if math.isfinite(worst) else SolveStatus.NON_FINITE


def _merged(
    value: Tensor, residuals: Tensor, done: int, rest: NarrowResult, kept: Tensor
) -> NarrowResult:
    """Put the samples that went on alone back in their places."""
    iterations = torch.full((value.shape[0],), done, device=value.device)
    if isinstance(rest.iterations, int):
        iterations.index_fill_(0, kept, rest.iterations)
    else:
        iterations.index_copy_(0, kept, rest.iterations)
    return NarrowResult(
        value.index_copy_(0, kept, rest.value),
        residuals.index_copy_(0, kept, rest.residuals),
        iterations,
        rest.status,
    )
