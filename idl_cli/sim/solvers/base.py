"""What a solver is: settings, what it can handle, and one method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from idl_cli.sim.problem import RowRegression

L1 = "l1"
L2 = "l2"
BUDGET = "budget"


@dataclass(frozen=True, eq=False)
class Progress:
    """What the common loop tells a solver about its weights.

    Attributes:
        relative_gap: Σ gaps / Σ objectives (largest KKT residual when λ = 0).
        objective: Σ objectives.
        solved: (rows,) bool, rows that need no further work.
        should_stop: all rows are solved, or time is up.
    """

    relative_gap: float
    objective: float
    solved: Tensor
    should_stop: bool


class Monitor(Protocol):
    """Hands weights to the common loop, which records and judges them."""

    def __call__(self, weights: Tensor, *, iteration: int | None = None) -> Progress:
        """Judge feasible weights (rows, D).

        Args:
            weights: of all rows.
            iteration: the solver's own count; the number of calls when omitted.
        """
        ...


@dataclass(frozen=True, eq=False)
class LowRankFactors:
    """A = left @ right.T, kept apart.

    Attributes:
        left: L (rows, rank), every row in the l1 ball of the budget's radius.
        right: R (count, rank), every column in the unit l1 ball.
    """

    left: Tensor
    right: Tensor


@dataclass(frozen=True, eq=False)
class SolverResult:
    """What a solver returns; the common loop certifies it.

    Attributes:
        weights: (rows, D).
        iterations: steps taken, in the solver's own unit (documented by its class).
        notes: sentences the user should see, e.g. that a fallback was used.
        factors: the low-rank form of the budgeted part, when the solver kept one.
        stationary: None when the solver minimised the convex problem, which the certificate judges.
            When it restricted the weights to a set that is not convex: whether it reached a
            stationary point there, which is the most that can be claimed.
    """

    weights: Tensor
    iterations: int
    notes: tuple[str, ...] = ()
    factors: LowRankFactors | None = None
    stationary: bool | None = None


@dataclass(frozen=True, kw_only=True)
class BaseSolver(ABC):
    """Base of all solvers: an immutable set of options with one method, :meth:`solve`.

    A solver knows the problem and the monitor it is handed, nothing else: not where the data came
    from, which SIM stage it serves, or how it is judged. A custom solver is a subclass registered
    under a name::

        @dataclass(frozen=True, kw_only=True)
        class MySolver(BaseSolver):
            handles = frozenset({"l1", "budget"})
            max_iter: int = 100

            def solve(self, problem, monitor):
                ...
                return SolverResult(weights, iterations)
    """

    handles: ClassVar[frozenset[str]] = frozenset()
    """Parts of the problem this solver honours, of ``l1``, ``l2``, ``budget``; the loop warns of
    the others."""

    @abstractmethod
    def solve(self, problem: RowRegression, monitor: Monitor) -> SolverResult:
        """Minimise the problem's objective over all rows.

        Args:
            problem: what to solve.
            monitor: call it now and then with the current weights; stop when it says so.
        """
