"""Coarse steps: the error in A's slow modes is solved for, sample by sample.

Where x ← f(x) = φ(Ax + b) is slow, it is slow in few directions. With y = f(x), r = y − x, the
slopes D = diag φ′ at y and slow modes P, Q of A, the error e ≈ Pc of x solves
Qᵀ(I − DA)Pc = Qᵀr, and what is left of it in y is D A P c:

    x⁺ = y + D A P c,    c = (QᵀP − Qᵀ D A P)⁻¹ Qᵀ r

one product with A a step, as before. This is deflation (two-grid) with an oblique projection; the
fixed point is that of f, whatever P and Q are. For the adjoint v = d ⊙ (g + Aᵀv) P and Q change
places.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from idl_cli.equilibrium.iterations.linearised import Linearised
from idl_cli.equilibrium.iterations.modes import Modes
from idl_cli.equilibrium.iterations.newton import NewtonSteps, factorises, solves_at_once
from idl_cli.equilibrium.iterations.picard import Picard
from idl_cli.equilibrium.iterations.step_method import StepMethod

# Coarse steps begin where the worst sample is so many plain ones away, at the rate of the last two:
# to find the modes takes as long as about ten.
_REMAINING = 40
# The rate is measured after the looks up to this iteration, and after those from the second on.
_FIRST_LOOK, _SECOND_LOOK = 7, 20
_APART = 3  # iterations, at least, from one to the next
# Iterations from the last plain look to the first coarse one: a look costs as much as three steps.
_UNTIL_LOOK, _UNTIL_LOOK_LINEAR = 7, 5
_FIRST_OF_COARSE = 8  # where coarse steps are taken from the first on
# Steps from one extrapolation to the next.
WINDOW = 8
# Coarse steps are slow where, after so many looks at them, so many more are to come.
_COARSE_LOOKS, _SLOW_LOOKS = 3, 15
# And where Newton's step takes no longer than a few of them.
_COARSE_LOOKS_OF_SMALL, _SLOW_LOOKS_OF_SMALL = 1, 2
_UNTIL_NEWTON = 3  # looks at what is extrapolated
_PATIENCE = 6  # of Newton's steps that bring a sample no nearer: patterns are found one by one
_REGULARIZATION = 10


class CoarseSteps(StepMethod):
    """Plain steps, coarse ones once samples are seen to be slow, extrapolated where that fails.

    From then on every third iterate is looked at. Where A has no modes set apart, or a sample comes
    no nearer twice, all that are left take Newton's steps, if these are few and small systems; else
    they are extrapolated after every eight steps, and those that are still left after two times
    take Newton's steps, unless its systems cannot be solved. A sample that comes no nearer goes
    back to its best iterate, and takes plain steps from there, for twice as long each time.

    Args:
        tol: largest residual of a converged sample.
        plain: the steps to begin with.
        slow: whether A tells that plain steps are many: where it has modes set apart, coarse steps
            are then taken from the first on.
    """

    _image: Tensor
    _best: Tensor
    _strikes: Tensor  # as the two below, counts of looks
    _wait: Tensor
    _pause: Tensor

    def __init__(self, tol: float, plain: Picard, *, slow: bool = False) -> None:
        self._tol = tol
        self._plain = plain
        self.check = plain.check
        self._look = 0  # iteration of the last look
        self._measured = 0  # and of the last after which the rate was measured
        self._worst = 0.0  # residual at a look after which the rate is to be measured
        self._change = 0.0  # and largest change of a state there
        self._begun, self._at_once = False, slow
        self._modes: Modes | None = None
        self._inverse: Tensor | None = None
        self._history: list[Tensor] | None = None  # iterates since the last jump
        self._newton: NewtonSteps | None = None  # while these are taken
        self._coarse_looks = 0
        self._until_newton: float = _UNTIL_NEWTON  # looks; infinite once its systems failed

    @property
    def passive(self) -> bool:  # type: ignore[override]
        """Whether steps are plain, no rate is being measured, and A is not to be asked."""
        return not (self._begun or self._change or self._at_once)

    @property
    def recovers(self) -> bool:  # type: ignore[override]
        """Whether other steps than plain ones are taken."""
        return self._begun

    @property
    def confirms(self) -> bool:  # type: ignore[override]
        """Whether plain steps are taken, and a product costs much more than a look by norm."""
        return not self._begun and self._plain.confirms

    def step(
        self, function: Callable[..., Tensor], x: Tensor, image: Tensor, residual: Tensor | None
    ) -> Tensor:
        """Return f(x), corrected in the slow modes."""
        assert isinstance(function, Linearised), "chosen for such maps alone"
        if residual is not None and self._begun:
            x, image = self._judged(function, x, image, residual)
            self._reconsider(function, image, residual)
            self.check += self._until_next
        else:
            if self._at_once:
                self._at_once = False
                if function.modes() is not None:
                    self._begin(function, image)
            elif self._change:
                rate, self._change = float((image - x).abs_().amax()) / self._change, 0.0
                if self._far(rate, _REMAINING):
                    self._begin(function, image)
            elif residual is not None:
                self._measure(x, image, residual)
            if residual is not None and not self._begun:
                self._plain.step(function, x, image, residual)
                self._look, self.check = self.check, self._plain.check
        self.spent = 0
        if self._newton is not None:
            return self._of_newton(self._newton, function, x, image)
        following = image if self._modes is None else self._corrected(function, x, image)
        if self._history is not None:
            self._history.append(following.clone())
            if residual is not None:
                following = self._jumped(following)
        return following

    def _of_newton(
        self, newton: NewtonSteps, function: Linearised, x: Tensor, image: Tensor
    ) -> Tensor:
        following = newton.step(function, x, image, self._wait == 0)
        self.spent = newton.spent
        self.check += self.spent
        if newton.failed:
            self._newton, self._history, self._until_newton = None, [], math.inf
        return following

    @property
    def _until_next(self) -> int:
        """Iterations from one look to the next."""
        if self._newton is not None:
            return 1
        return 3 if self._history is None else WINDOW

    def _reconsider(self, function: Linearised, image: Tensor, residual: Tensor) -> None:
        """Go over to extrapolation where coarse steps are slow, to Newton's where that is."""
        if self._history is None:
            before, self._worst = self._worst, float(residual.amax())
            self._coarse_looks += 1
            enough, many = _COARSE_LOOKS, _SLOW_LOOKS
            if solves_at_once(image):
                enough, many = _COARSE_LOOKS_OF_SMALL, _SLOW_LOOKS_OF_SMALL
            if self._coarse_looks > enough and self._far(self._worst / before, many):
                self._do_without_modes(function, image)
        elif self._newton is None:
            self._until_newton -= 1
            if self._until_newton <= 0:
                self._newton = NewtonSteps(function, image)

    def _do_without_modes(self, function: Linearised, image: Tensor) -> None:
        self._history = []
        if factorises(image):
            self._newton = NewtonSteps(function, image)

    def _far(self, rate: float, steps: int) -> bool:
        """Whether the worst sample is more than so many steps of this rate away."""
        return math.log(self._worst / self._tol) > -steps * math.log(max(rate, 1e-9))

    def _jumped(self, following: Tensor) -> Tensor:
        assert self._history is not None, "the caller has looked"
        if len(self._history) > WINDOW:
            jump = extrapolated(self._history)
            usable = jump.isfinite().all(dim=1).logical_and_(self._wait == 0)
            following = torch.where(usable[:, None], jump, following)
        self._history = [following.clone()]
        return following

    def _measure(self, x: Tensor, image: Tensor, residual: Tensor) -> None:
        if _FIRST_LOOK <= self._look < _SECOND_LOOK or self.check - self._measured < _APART:
            return
        self._measured = self.check
        self._worst = float(residual.amax())
        if self._worst > 10 * self._tol:
            self._change = float((image - x).abs_().amax())

    def _begin(self, function: Linearised, image: Tensor) -> None:
        self._begun, self._modes = True, function.modes()
        self._image = image.clone()
        self._best = torch.full_like(image[:, 0], torch.inf)
        self._strikes, self._wait = torch.zeros_like(self._best), torch.zeros_like(self._best)
        self._pause = torch.full_like(self._best, 0.5)
        if self._modes is None:
            self._do_without_modes(function, image)
            self.check = self._look + 1 + self._until_next
            return
        # D changes on the way; in an adjoint it does not.
        until_look = _UNTIL_LOOK if self._look else _FIRST_OF_COARSE
        self.check = self._look + (_UNTIL_LOOK_LINEAR if function.linear else until_look)
        self._left = self._modes.left.t()
        self._overlap = (self._modes.right @ self._left).t().flatten()
        self._pairs = (self._modes.left[:, None] * self._modes.right_image).flatten(0, 1).t()

    def _judged(
        self, function: Linearised, x: Tensor, image: Tensor, residual: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return where to go on from: these iterates and f of them, or those of an earlier look."""
        better = residual < self._best
        if bool(better.all()):
            self._best, self._image = residual, image.clone()
        else:
            self._best = torch.where(better, residual, self._best)
            self._image = torch.where(better[:, None], image, self._image)
        # While the slow error leaves, the residual may rise for once.
        self._strikes.add_(1).masked_fill_(better, 0)
        patience = 1 if self._newton is None else _PATIENCE
        back = ((self._wait == 0) & (self._strikes > patience)) | (residual == torch.inf)
        self._wait.sub_(1).clamp_(min=0)
        if bool(back.any()):
            image = torch.where(back[:, None], self._image, image)
            x = torch.where(back[:, None], image, x)
            self._strikes.masked_fill_(back, 0)
            self._pause = torch.where(back, 2 * self._pause, self._pause)
            self._wait = torch.where(back, self._pause, self._wait)
            if self._history is None:
                self._do_without_modes(function, image)
        return x, image

    def _corrected(self, function: Linearised, x: Tensor, image: Tensor) -> Tensor:
        modes = self._modes
        assert modes is not None, "the caller has looked"
        slopes = function.slopes(x, image)
        inverse = self._inverse
        if inverse is None:
            inverse = self._overlap - slopes @ self._pairs
            if len(modes.left) == 1:
                inverse.reciprocal_()
            else:
                systems = inverse.view(len(inverse), len(modes.left), -1)
                inverse = torch.linalg.inv_ex(systems).inverse
            if function.linear:
                self._inverse = inverse
        known = (image - x) @ self._left
        c = known.mul_(inverse) if known.shape[1] == 1 else (inverse @ known[..., None])[..., 0]
        if self._history is not None:
            c = c * (self._wait == 0)[:, None]
        return torch.addcmul(image, slopes, c @ modes.right_image)

    def restrict(self, samples: Tensor) -> None:
        """Keep the state of these samples only."""
        if not self._begun:
            return
        self._image, self._best = self._image[samples], self._best[samples]
        self._strikes, self._wait = self._strikes[samples], self._wait[samples]
        self._pause = self._pause[samples]
        if self._inverse is not None:
            self._inverse = self._inverse[samples]
        if self._history is not None:
            self._history = [each[samples] for each in self._history]


def extrapolated(iterates: list[Tensor]) -> Tensor:
    """Return the reduced rank extrapolation of consecutive iterates (m, n), the oldest first.

    The combination Σ γ_j x_{j+1}, Σ γ_j = 1, whose change Σ γ_j (x_{j+1} − x_j) is least: exact for
    a linear map of as many modes as there are iterates, less two (Eddy 1979; Sidi, Vector
    Extrapolation Methods, SIAM 2017). Regularised to some units of rounding.
    """
    changes = torch.stack([b - a for a, b in pairwise(iterates)], dim=1)
    second = changes[:, 1:] - changes[:, :-1]
    last = changes[:, -1:]
    scale = (
        second.square().sum(dim=2, keepdim=True).sqrt_().clamp_(min=torch.finfo(last.dtype).tiny)
    )
    unit = second / scale
    gram = unit @ unit.mT
    gram.diagonal(dim1=1, dim2=2).add_(_REGULARIZATION * torch.finfo(last.dtype).eps)
    weights = torch.linalg.solve_ex(gram, unit @ last.mT).result / scale
    jump: Tensor = iterates[-1] - (changes[:, 1:].mT @ weights).squeeze(2)
    return jump
