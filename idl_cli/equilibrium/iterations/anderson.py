"""Anderson acceleration."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from idl_cli.equilibrium.iterations.secants import Secants
from idl_cli.equilibrium.iterations.step_method import StepMethod


class Anderson(StepMethod):
    """Anderson acceleration of type II, with a window and a least-squares problem for each sample.

    With g = f(x) − x and the last steps' differences ΔX, ΔG, the proposal is
    x + βg − (ΔX + βΔG) γ, γ = argmin ‖g − ΔG γ‖² + μ‖γ‖², μ = regularization · trace(ΔGᵀΔG),
    β = damping (Walker and Ni, SIAM J. Numer. Anal. 49(4), 2011, doi:10.1137/10078356X).

    A sample whose proposal is not finite takes the Picard step instead. A sample whose last
    proposal turned out worse than the iterate it came from (larger residual) returns to that
    iterate's Picard step and starts a new window, so on a contraction every second step at least
    contracts.

    Args:
        window: steps that are mixed.
        regularization: as above.
        damping: as above.
        secants: where the windows of all samples are kept.
    """

    steered = True

    def __init__(
        self,
        window: int,
        regularization: float,
        damping: float = 1.0,
        secants: Secants | None = None,
    ) -> None:
        self._window = window
        self._damping = damping
        self._secants = secants
        self._rows: Tensor | None = None  # of the samples at hand
        self._regularization = regularization
        self._count = 0
        self._state: _AndersonState | None = None

    def step(
        self, function: Callable[..., Tensor], x: Tensor, image: Tensor, residual: Tensor | None
    ) -> Tensor:
        """Return the mixed step, or the Picard step where that is safer."""
        assert residual is not None, "Anderson is checked at every iteration"
        self.check += 1
        difference = image - x
        state = self._state
        if state is None:
            self._state = _AndersonState.begin(x, image, difference, residual, self._window)
            self._followed(self._state)
            return self._plain(x, image)
        worse = ~(residual <= state.residual) & ~state.restarted
        slot = self._count % self._window
        self._count += 1
        state.steps[:, slot] = x - state.x
        state.changes[:, slot] = difference - state.difference
        # Filled, not multiplied by zero: a rejected proposal may have left infinities behind.
        state.steps.masked_fill_(worse[:, None, None], 0)
        state.changes.masked_fill_(worse[:, None, None], 0)
        plain = self._plain(x, image)
        proposal = plain - self._correction(state, difference)
        usable = proposal.isfinite().all(dim=1, keepdim=True)
        following = torch.where(usable, proposal, plain)
        following = torch.where(worse[:, None], self._plain(state.x, state.image), following)
        state.accept(x, image, difference, residual, ~worse)
        return following

    def _plain(self, x: Tensor, image: Tensor) -> Tensor:
        return image if self._damping == 1 else torch.lerp(x, image, self._damping)

    def _correction(self, state: _AndersonState, difference: Tensor) -> Tensor:
        gram = state.changes @ state.changes.mT
        projected = state.changes @ difference[:, :, None]
        diagonal = gram.diagonal(dim1=1, dim2=2)
        # Below a few units of rounding the regularisation would not be felt at all.
        weight = max(self._regularization, 10 * torch.finfo(difference.dtype).eps)
        shift = weight * diagonal.sum(dim=1, keepdim=True) + torch.finfo(difference.dtype).tiny
        diagonal += shift
        weights: Tensor = torch.linalg.solve_ex(gram, projected)[0]
        directions = torch.add(state.steps, state.changes, alpha=self._damping)
        return (directions.mT @ weights).squeeze(2)

    def restrict(self, samples: Tensor) -> None:
        """Keep the windows of these samples only."""
        self._rows = samples if self._rows is None else self._rows.index_select(0, samples)
        if self._secants is not None:
            self._secants.leave(samples)
        if self._state is not None:
            self._state = self._state.restrict(samples)
            self._followed(self._state)

    def _followed(self, state: _AndersonState) -> None:
        if self._secants is not None:
            if self._rows is None:
                self._rows = torch.arange(len(state.x), device=state.x.device)
            self._secants.follow(self._rows, state.steps, state.changes)


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
