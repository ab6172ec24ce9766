"""What a solver is: settings, what it can handle, and one method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.sim.regression.problem import RowRegression

L1 = "l1"
L2 = "l2"
BUDGET = "budget"
NONZEROS = "nonzeros"


@dataclass(frozen=True, eq=False)
class Progress:
    """What the common loop tells a solver about its weights.

    Attributes:
        relative_gap: Σ gaps / Σ objectives.
        objective: Σ objectives.
        solved: (rows,) bool, rows that need no further work.
        should_stop: all rows are solved, or time is up.
    """

    relative_gap: float
    objective: float
    solved: Tensor
    should_stop: bool


class Monitor(Protocol):
    """Hands weights to the common loop, which records and judges them.

    Most solvers only call it; the rest serves solves that last long or use several processes.
    """

    def __call__(self, weights: Tensor, *, iteration: int | None = None) -> Progress:
        """Judge feasible weights (rows, D).

        Args:
            weights: of all rows.
            iteration: the solver's own count; the number of calls when omitted.
        """
        ...

    def time_is_up(self) -> bool:
        """Whether this process is past the time limit; unlike a judgement it costs nothing.

        For long stretches between judgements. Processes may disagree for a moment.
        """
        ...

    def seconds_left(self) -> float | None:
        """Time until the limit, at least 0; None for no limit. For solvers that take a limit."""
        ...

    @property
    def group(self) -> Group:
        """The processes that solve this problem together, a single one as a rule."""
        ...

    def share(self, rows: Tensor) -> Monitor:
        """A monitor for the problem of some rows (indices), which says stop when they are solved.

        Its reports, with what is known of the other rows, enter the common history. It also says
        stop when it is time for the rows to be put together for a checkpoint.
        """
        ...

    def recipe(self) -> Callable[[RowRegression, Group], Monitor]:
        """What makes a monitor like this one in another process; it can be pickled.

        The new one reports to nobody: tolerance, time limit and start are the same.
        """
        ...

    @property
    def restored(self) -> Mapping[str, Tensor] | None:
        """The last checkpoint of an interrupted solve of the same problem; None to start anew."""
        ...

    def checkpoint(self, iterate: Mapping[str, Tensor]) -> None:
        """Offer what a later solve could continue from; the loop decides whether it is time."""
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
        seconds: wall-clock time of parts of the solve, e.g. ``factorisation``, ``iterations``.
        stationary: None when the solver minimised the convex problem, which the certificate judges.
            When it restricted the weights to a set that is not convex: whether it reached a
            stationary point there, which is the most that can be claimed.
        swap_optimal: under a limit on non-zeros: no exchange of one weight of a row for another
            lowers its error.
        memory: what would spare the same solver work on a problem that differs in its penalty
            alone, such as a factorisation; nobody else looks at it.
    """

    weights: Tensor
    iterations: int
    notes: tuple[str, ...] = ()
    factors: LowRankFactors | None = None
    stationary: bool | None = None
    swap_optimal: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)
    memory: object = None


@dataclass(frozen=True, eq=False)
class Start:
    """Where a solver may begin: its answer to a similar problem, at another penalty say.

    Attributes:
        weights: (rows, D) float64, feasible for the new problem too.
        memory: ``SolverResult.memory`` of that answer. It may be of another problem: what does not
            fit is made anew.
    """

    weights: Tensor
    memory: object = None


@dataclass(frozen=True, kw_only=True)
class BaseSolver(ABC):
    """Base of all solvers: an immutable set of options with one method to write, :meth:`solve`.

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
    """Parts of the problem this solver honours, of ``l1``, ``l2``, ``budget``, ``nonzeros``; the
    loop warns of the others."""

    def splits_columns(self, features: int, processes: int) -> bool:
        """Whether G is to be split by columns over so many processes; few solvers can use that."""
        return False

    @abstractmethod
    def solve(self, problem: RowRegression, monitor: Monitor) -> SolverResult:
        """Minimise the problem's objective over all rows.

        Args:
            problem: what to solve.
            monitor: call it now and then with the current weights; stop when it says so.
        """

    def solve_from(self, problem: RowRegression, monitor: Monitor, start: Start) -> SolverResult:
        """Minimise, beginning where a similar problem ended; a solver need not know how.

        Whoever solves for many penalties calls this. Without a method of its own a solver begins
        from nothing each time, which costs time and changes no answer.

        Args:
            problem: what to solve.
            monitor: as for :meth:`solve`.
            start: weights of the same shape, and what the solver kept.
        """
        del start
        return self.solve(problem, monitor)
