"""When the solves of a recurrence's steps are looked at: many samples of few states.

For a few dozen states an iteration takes microseconds, and what stands around it decides the time:

- Neighbouring steps take about as many iterations. The residuals are first looked at when those
  of the step before were small enough.
- A sample that has converged is iterated on with the others, and only becomes more accurate, until
  the unfinished ones of a large batch are the minority and go on alone.

So which iterate of a sample is returned depends on its batch; that it meets the tolerance does not.
"""

from __future__ import annotations

import math

from idl_cli.equilibrium.policy import Look, Policy

# Unfinished samples go on alone once no more than this share of those iterated on is unfinished,
_SHARE = 0.5
# those have so many values (below, an iteration takes no longer than its overhead),
_MANY = 8192
# and the worst residual is so many tolerances (below, a few iterations settle it).
_DISTANCE = 10

# The next solve is looked at one iteration earlier where the worst residual was below this many
# tolerances. On few values a look takes as long as four iterations: one iteration too many costs
# less than a look too early.
_ROOM_OF_MANY = 0.6
_ROOM_OF_FEW = 0.2

# After a solve in which single states lagged, so many are not looked at earlier than it ended.
_PATIENCE = 8


class Together(Policy):
    """Serves one solve after another, and remembers when the last ones had converged.

    Args:
        first_check: the iteration of the first solve whose residual is looked at first, >= 1.
        rounding: residual below which changes are rounding.
    """

    together = True

    def __init__(self, *, first_check: int, rounding: float) -> None:
        # When to look first: with all samples, and after each time that samples were left behind.
        self._expected = [first_check]
        self._rounding = rounding
        self._patience = 0
        self._begin()

    def _begin(self) -> None:
        self._level = 0
        self._go_on(0)

    def _go_on(self, done: int) -> None:
        if self._level == len(self._expected):
            self._expected.append(done + max(2, done // 3))
        self.check = max(self._expected[self._level], done + 1)
        self._done = done
        self._before, self._stuck = math.inf, False

    def parts(self, worst: float, tol: float, values: int) -> bool:
        """Return whether some are far from the end, and an iteration of all costs something."""
        return math.isnan(worst) or (values >= _MANY and worst >= _DISTANCE * tol)

    def parted(self, running: int, samples: int, worst: float) -> bool:
        """Return whether they are the minority, or one of the others is given up."""
        return math.isnan(worst) or running <= _SHARE * samples

    def looked(self, done: int, look: Look, tol: float) -> None:
        """Look again after as many steps as may bring the worst sample to its end."""
        # Small states among large ones, and rounding, are settled by the steps of the equation
        # itself, which the looks are.
        worst, many = look.worst, look.values >= _MANY
        self._stuck = self._stuck or (done - self._done > 1 and worst >= self._before)
        self._before, self._done = worst, done
        plain = look.lagging or self._stuck or worst < 4 * self._rounding
        near = worst < 3 * tol and many
        self.check = done + (1 if near or plain else max(2, done // 6))

    def left_behind(self, done: int, running: int, samples: int) -> None:
        """Look first at those that are left when the last that were left had converged."""
        self._expected[self._level] = max(2, done - (running < 0.7 * _SHARE * samples))
        self._level += 1
        self._go_on(done)

    def ended(self, done: int, worst: float, tol: float, values: int, lagged: bool) -> None:
        """Look first at the next solve where this one ended, or a step earlier."""
        if math.isnan(worst):  # which tells of no other
            self._begin()
            return
        room = _ROOM_OF_MANY if values >= _MANY else _ROOM_OF_FEW
        if lagged:
            self._patience = _PATIENCE
        self._patience -= 1
        early = worst < room * tol and self._patience < 0
        self._expected[self._level] = max(2, done - early)
        self._begin()
