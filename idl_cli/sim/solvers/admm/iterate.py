"""Where an ADMM solve stands, in terms that any number of processes can continue from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.solver import Monitor, Start
from idl_cli.sim.solvers.options import AdmmOptions


@dataclass(frozen=True, eq=False)
class Iterate:
    """Weights, and where among iterations and polishes the solve is.

    The dual variable is left out: at weights W it is (H − GW)/ρ, as at the optimum.

    Attributes:
        weights: (rows, D) float64, feasible, the best known of every row.
        untried: (rows,) bool, rows that the polish under way has yet to try.
        iteration: iterations so far.
        next_polish: iteration at which to polish; -1 before the warm-up.
        rho: the penalty ρ.
    """

    weights: Tensor
    untried: Tensor
    iteration: int
    next_polish: int
    rho: float

    @classmethod
    def start(cls, problem: RowRegression, rho: float) -> Iterate:
        """The start: all zero."""
        weights = torch.zeros_like(problem.cross)
        return cls(weights, torch.zeros(problem.rows, dtype=torch.bool), 0, -1, rho)

    @classmethod
    def after(cls, weights: Tensor, options: AdmmOptions) -> Iterate:
        """The start at the answer (rows, D) for another penalty: its support is polished first."""
        untried = torch.zeros(len(weights), dtype=torch.bool)
        next_polish = 0 if options.polish_passes else options.max_iter + 1
        return cls(weights, untried, 0, next_polish, options.rho)

    def exhausts(self, options: AdmmOptions) -> bool:
        """Whether no phase is left."""
        return options.max_iter <= self.iteration < self.next_polish

    def select(self, rows: Tensor) -> Iterate:
        """Of some rows (indices) only."""
        return Iterate(
            self.weights[rows],
            self.untried[rows.cpu()],
            self.iteration,
            self.next_polish,
            self.rho,
        )

    def tensors(self) -> dict[str, Tensor]:
        """The iterate as named tensors: a checkpoint."""
        numbers = [float(self.iteration), float(self.next_polish), self.rho]
        return {
            "weights": self.weights,
            "untried": self.untried,
            "numbers": torch.tensor(numbers, dtype=torch.float64),
        }

    @classmethod
    def begin(
        cls, problem: RowRegression, monitor: Monitor, options: AdmmOptions, start: Start | None
    ) -> Iterate | None:
        """Where a solve begins: at its checkpoint, at the start, or (None) at zero weights.

        A checkpoint of a solve that was not to polish is polished now where this one is to.
        """
        found = cls.from_tensors(monitor.restored, problem.cross)
        if found is None and start is not None:
            return cls.after(start.weights, options)
        if found is None or not options.polish_passes or found.next_polish <= options.max_iter:
            return found
        return replace(found, next_polish=found.iteration)

    @classmethod
    def from_tensors(cls, stored: Mapping[str, Tensor] | None, like: Tensor) -> Iterate | None:
        """What :meth:`tensors` gave, on the device of ``like``; None where it is not that."""
        if stored is None or not {"weights", "untried", "numbers"} <= stored.keys():
            return None
        weights, untried, numbers = stored["weights"], stored["untried"], stored["numbers"]
        if weights.shape != like.shape or untried.shape != like.shape[:1] or len(numbers) != 3:
            return None
        iteration, next_polish, rho = numbers.tolist()
        if not (bool(weights.isfinite().all()) and rho > 0):
            return None
        return cls(
            weights.to(like), untried.bool().cpu(), int(iteration), int(next_polish), float(rho)
        )
