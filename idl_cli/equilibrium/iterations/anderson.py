"""Anderson acceleration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from idl_cli.equilibrium.iterations.secants import Secants
from idl_cli.equilibrium.iterations.step_method import StepMethod

# Times the least residual so far, from which a sample goes back.
_LOST = 100
# Windows without a new least one after which Picard steps are taken alone, two at first. Fewer cost
# maps that are no contraction, whose Picard steps lead nowhere, some of their samples.
_PATIENCE = 6


class Anderson(StepMethod):
    """Anderson acceleration of type II, with a window and a least-squares problem for each sample.

    With g = f(x) − x and the last steps' differences ΔX, ΔG, the proposal is
    x + βg − (ΔX + βΔG) γ, γ = argmin ‖g − ΔG γ‖² + μ‖γ‖², μ = regularization · trace(ΔGᵀΔG),
    β = damping (Walker and Ni, SIAM J. Numer. Anal. 49(4), 2011, doi:10.1137/10078356X).

    A sample whose proposal is not finite takes the Picard step instead. A sample whose last
    proposal turned out worse than the iterate it came from (larger residual) goes on from there by
    a Picard step and starts a new window: a slow error raises the residual on its way out, and to
    go back would keep it. One that is not finite, or a hundred times worse than the best so far,
    returns to the Picard step of the iterate it came from. One that has not come nearer for
    six windows takes Picard steps alone, for twice as long each time, so that all samples of a
    contraction end.

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
        lost = ~(residual <= _LOST * state.least) & ~state.plain
        plain = state.judge(residual, _PATIENCE * self._window)
        slot = self._count % self._window
        self._count += 1
        state.steps[:, slot] = x - state.x
        state.changes[:, slot] = difference - state.difference
        # Filled, not multiplied by zero: a rejected proposal may have left infinities behind.
        state.steps.masked_fill_(plain[:, None, None], 0)
        state.changes.masked_fill_(plain[:, None, None], 0)
        following = self._plain(x, image)
        proposal = following - self._correction(state, difference)
        usable = proposal.isfinite().all(dim=1, keepdim=True)
        following = torch.where(usable, proposal, following)
        following = torch.where(lost[:, None], self._plain(state.x, state.image), following)
        state.accept(x, image, difference, ~lost)
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


@dataclass
class _AndersonState:
    """The last iterate of each sample, its window of differences, and how it fares.

    Attributes:
        x: the iterate (m, n).
        image: f of it.
        difference: of the two.
        steps: the last steps of x (m, window, n), zeros where there are none.
        changes: those of ``difference``.
        residual: of the last evaluation (m,).
        least: smallest so far (m,).
        idle: evaluations since then (m,).
        pause: Picard steps still to be taken alone (m,).
        longest: how many the last pause had (m,).
        plain: whether the last step was Picard's (m,).
    """

    x: Tensor
    image: Tensor
    difference: Tensor
    steps: Tensor
    changes: Tensor
    residual: Tensor
    least: Tensor
    idle: Tensor
    pause: Tensor
    longest: Tensor
    plain: Tensor

    @classmethod
    def begin(
        cls, x: Tensor, image: Tensor, difference: Tensor, residual: Tensor, window: int
    ) -> _AndersonState:
        """Start with an empty window."""
        samples, size = x.shape
        steps = x.new_zeros(samples, window, size)
        none = torch.zeros_like(residual)
        return cls(
            x=x.clone(),
            image=image.clone(),
            difference=difference,
            steps=steps,
            changes=steps.clone(),
            residual=residual,
            least=residual,
            idle=none,
            pause=none,
            longest=torch.ones_like(residual),
            plain=torch.zeros_like(residual, dtype=torch.bool),
        )

    def judge(self, residual: Tensor, patience: int) -> Tensor:
        """Take note of a residual; return which samples take a Picard step (m,).

        Args:
            residual: of the evaluation at hand (m,).
            patience: evaluations without a new least one after which a pause begins.
        """
        worse = ~(residual <= self.residual) & ~self.plain
        self.idle = torch.where(residual < self.least, 0, self.idle + 1)
        self.least = torch.fmin(residual, self.least)
        self.residual = residual
        stuck = (self.idle > patience) & (self.pause <= 0)
        self.longest = torch.where(stuck, 2 * self.longest, self.longest)
        self.pause = torch.where(stuck, self.longest, self.pause - 1)
        self.idle = self.idle.masked_fill(self.pause > 0, 0)
        self.plain = worse | (self.pause > 0)
        return self.plain

    def accept(self, x: Tensor, image: Tensor, difference: Tensor, keep: Tensor) -> None:
        """Move to the new iterate where it is kept."""
        column = keep[:, None]
        self.x = torch.where(column, x, self.x)
        self.image = torch.where(column, image, self.image)
        self.difference = torch.where(column, difference, self.difference)

    def restrict(self, samples: Tensor) -> _AndersonState:
        """Return the state of these samples only."""
        return _AndersonState(*(getattr(self, each.name)[samples] for each in fields(self)))
