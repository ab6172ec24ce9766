"""What a fixed-point method does between two evaluations: propose the next iterate.

A method knows nothing of tolerances or batches that shrink while it runs beyond ``restrict``; the
driver (``fixed_point``) stops, counts and freezes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class StepMethod(ABC):
    """The steps of one solve; an instance holds that solve's state.

    Attributes:
        first_check: the first iteration whose residual is looked at.
        steered: whether the steps depend on the residual.
    """

    first_check: int = 1
    steered: bool = False

    def next_check(self, iteration: int) -> int:
        """Return the iteration whose residual is looked at after this one."""
        return iteration + 1

    @abstractmethod
    def step(self, x: Tensor, image: Tensor, residual: Tensor | None) -> Tensor:
        """Propose the next iterates.

        Args:
            x: current iterates (m, n).
            image: f(x) (m, n); may be returned itself.
            residual: relative residual of each x (m,); None at iterations that were not checked.
        """

    @abstractmethod
    def restrict(self, samples: Tensor) -> None:
        """Keep the state of the samples at these indices (k,) only."""


class Picard(StepMethod):
    """x ← f(x): contracts at the rate of f, and costs one evaluation a step.

    For a small model a check, and setting finished samples aside, cost more than a step. So checks
    are spread out, on iterations 7, 10, 13, 16, 20, 25, ...: most samples of a model in training
    need six to nine for a tolerance of 1e-5. At most a fifth of a long solve is spent in vain, and
    what is spent is counted.
    """

    first_check = 7

    def next_check(self, iteration: int) -> int:
        """Return the iteration to look at next: a quarter further, at least three."""
        return iteration + max(3, iteration // 4)

    def step(self, x: Tensor, image: Tensor, residual: Tensor | None) -> Tensor:
        """Return f(x)."""
        return image

    def restrict(self, samples: Tensor) -> None:
        """Do nothing: there is no state."""


class Anderson(StepMethod):
    """Anderson acceleration of type II, with a window and a least-squares problem for each sample.

    With g = f(x) − x and the last steps' differences ΔX, ΔG, the proposal is
    f(x) − (ΔX + ΔG) γ, γ = argmin ‖g − ΔG γ‖² + μ‖γ‖² (Walker and Ni, SIAM J. Numer. Anal. 49(4),
    2011, doi:10.1137/10078356X), μ = regularization · trace(ΔGᵀΔG).

    A sample whose proposal is not finite takes the Picard step instead. A sample whose last
    proposal turned out worse than the iterate it came from (larger residual) returns to that
    iterate's Picard step and starts a new window, so on a contraction every second step at least
    contracts.
    """

    steered = True

    def __init__(self, window: int, regularization: float) -> None:
        self._window = window
        self._regularization = regularization
        self._count = 0
        self._state: _AndersonState | None = None

    def step(self, x: Tensor, image: Tensor, residual: Tensor | None) -> Tensor:
        """Return the mixed step, or the Picard step where that is safer."""
        assert residual is not None, "Anderson is checked at every iteration"
        difference = image - x
        state = self._state
        if state is None:
            self._state = _AndersonState.begin(x, image, difference, residual, self._window)
            return image
        worse = ~(residual <= state.residual) & ~state.restarted
        slot = self._count % self._window
        self._count += 1
        state.steps[:, slot] = x - state.x
        state.changes[:, slot] = difference - state.difference
        # Filled, not multiplied by zero: a rejected proposal may have left infinities behind.
        state.steps.masked_fill_(worse[:, None, None], 0)
        state.changes.masked_fill_(worse[:, None, None], 0)
        proposal = image - self._correction(state, difference)
        usable = proposal.isfinite().all(dim=1, keepdim=True)
        following = torch.where(usable, proposal, image)
        following = torch.where(worse[:, None], state.image, following)
        state.accept(x, image, difference, residual, ~worse)
        return following

    def _correction(self, state: _AndersonState, difference: Tensor) -> Tensor:
        gram = state.changes @ state.changes.mT
        projected = state.changes @ difference[:, :, None]
        diagonal = gram.diagonal(dim1=1, dim2=2)
        # Below a few units of rounding the regularisation would not be felt at all.
        weight = max(self._regularization, 10 * torch.finfo(difference.dtype).eps)
        shift = weight * diagonal.sum(dim=1, keepdim=True) + torch.finfo(difference.dtype).tiny
        diagonal += shift
        weights: Tensor = torch.linalg.solve_ex(gram, projected)[0]
        return ((state.steps + state.changes).mT @ weights).squeeze(2)

    def restrict(self, samples: Tensor) -> None:
        """Keep the windows of these samples only."""
        if self._state is not None:
            self._state = self._state.restrict(samples)


class _AndersonState:
    """The last accepted iterate of each sample and its window of differences (m, window, n)."""

    def __init__(
        self,
        x: Tensor,
        image: Tensor,
        difference: Tensor,
        residual: Tensor,
        restarted: Tensor,
        steps: Tensor,
        changes: Tensor,
    ) -> None:
        self.x = x
        self.image = image
        self.difference = difference
        self.residual = residual
        self.restarted = restarted
        self.steps = steps
        self.changes = changes

    @classmethod
    def begin(
        cls, x: Tensor, image: Tensor, difference: Tensor, residual: Tensor, window: int
    ) -> _AndersonState:
        """Start with an empty window."""
        samples, size = x.shape
        steps = x.new_zeros(samples, window, size)
        restarted = torch.zeros(samples, dtype=torch.bool, device=x.device)
        return cls(x.clone(), image.clone(), difference, residual, restarted, steps, steps.clone())

    def accept(
        self, x: Tensor, image: Tensor, difference: Tensor, residual: Tensor, keep: Tensor
    ) -> None:
        """Move to the new iterate where it is kept; elsewhere note that the window restarted."""
        column = keep[:, None]
        self.x = torch.where(column, x, self.x)
        self.image = torch.where(column, image, self.image)
        self.difference = torch.where(column, difference, self.difference)
        self.residual = torch.where(keep, residual, self.residual)
        self.restarted = ~keep

    def restrict(self, samples: Tensor) -> _AndersonState:
        """Return the state of these samples only."""
        return _AndersonState(
            self.x[samples],
            self.image[samples],
            self.difference[samples],
            self.residual[samples],
            self.restarted[samples],
            self.steps[samples],
            self.changes[samples],
        )
