"""The iterations that solve a step of a recurrence: plain (Picard) ones, and modulus ones.

For φ = relu, relu(z) = (z + |z|)/2 turns the equilibrium of z = A relu(z) + b into

    y = K|y| + (I + K) b            K = ((1 + ω)I − A)⁻¹ (A − (1 − ω)I)        x = relu(y)/ω

with y = ωz for z > 0 and y = z otherwise, for any ω > 0 (modulus iteration of linear
complementarity problems: Bai, Numer. Linear Algebra Appl. 17, 2010, doi:10.1002/nla.680). For ω = 1
it contracts by ‖K‖∞ ≤ κ/(2 − κ) instead of κ where ‖A‖∞ ≤ κ < 1. Trained feedback has one slow,
positive direction, which a smaller ω hastens at the cost of the others: with ω a little below 1
trained weights take half of the plain one's iterations, at the same price each. Likewise the
adjoint p = g + Aᵀ(d ⊙ p), v = d ⊙ p, with d = (1 + s)/2 and signs s in place of the modulus:

    w = Kᵀ(s ⊙ w) + (I + Kᵀ) g       v = d ⊙ w/ω.

Whatever the iteration, convergence is judged by the residual of the equation itself; the evaluation
that this takes is the next step.

Tensors are (m, n), state-major (see ``driver``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from idl_cli.equilibrium.activations import Activation
from idl_cli.equilibrium.operators import DenseOperator, Operator
from idl_cli.equilibrium.residual import SummedAdjoints, SummedStates, select


class StepIterations(ABC):
    """The iterations of one solve of x = f(x), holding the current iterate."""

    @abstractmethod
    def advance(self, count: int) -> None:
        """Take so many steps."""

    @abstractmethod
    def check(self) -> tuple[Tensor, Tensor]:
        """Take a step; return the iterate before it and its image f(x), both (m, n).

        They are valid until the step after next.
        """

    @abstractmethod
    def restrict(self, samples: Tensor) -> None:
        """Go on with the samples at these indices (k,) alone."""


class PlainStates(StepIterations, SummedStates):
    """x ← φ(Ax + b).

    Args:
        operator: A.
        activation: φ.
        offset: b.
        start: first iterates; not overwritten.
        buffers: two tensors (m, n) to work in.
    """

    def __init__(
        self,
        operator: Operator,
        activation: Activation,
        offset: Tensor,
        start: Tensor,
        buffers: tuple[Tensor, Tensor],
    ) -> None:
        self.operator = operator
        self._activation = activation
        self.inflow = offset
        self._x = start
        self._next, self._spare = buffers

    def advance(self, count: int) -> None:
        """Take so many steps."""
        apply, act, offset = self.operator.apply, self._activation.in_place, self.inflow
        x, following, spare = self._x, self._next, self._spare
        for _ in range(count):
            x, following, spare = act(apply(x, offset, following)), spare, following
        self._x, self._next, self._spare = x, following, spare

    def check(self) -> tuple[Tensor, Tensor]:
        """Take a step; return the iterate before it and its image."""
        x = self._x
        self.advance(1)
        return x, self._x

    def restrict(self, samples: Tensor) -> None:
        """Go on with these samples alone."""
        self.inflow, self._x = select(self.inflow, samples), select(self._x, samples)
        self._next, self._spare = self._next[: samples.shape[0]], self._spare[: samples.shape[0]]


class PlainAdjoints(StepIterations, SummedAdjoints):
    """v ← d ⊙ (g + Aᵀv).

    Args:
        operator: A.
        slopes: d.
        gradient: g.
        buffers: two tensors (m, n) to work in.
    """

    def __init__(
        self, operator: Operator, slopes: Tensor, gradient: Tensor, buffers: tuple[Tensor, Tensor]
    ) -> None:
        self.operator = operator
        self.slopes = slopes
        self.gradient = gradient
        self._next, self._spare = buffers
        self._v = slopes * gradient

    def advance(self, count: int) -> None:
        """Take so many steps."""
        apply, slopes, gradient = self.operator.apply_transpose, self.slopes, self.gradient
        v, following, spare = self._v, self._next, self._spare
        for _ in range(count):
            v, following, spare = apply(v, gradient, following).mul_(slopes), spare, following
        self._v, self._next, self._spare = v, following, spare

    def check(self) -> tuple[Tensor, Tensor]:
        """Take a step; return the iterate before it and its image."""
        v = self._v
        self.advance(1)
        return v, self._v

    def restrict(self, samples: Tensor) -> None:
        """Go on with these samples alone."""
        self.slopes = select(self.slopes, samples)
        self.gradient = select(self.gradient, samples)
        self._v = select(self._v, samples)
        self._next, self._spare = self._next[: samples.shape[0]], self._spare[: samples.shape[0]]


# Values of ω, of which the first with ‖K‖∞ < 1 is taken; with ω = 1 that is sure. At 0.9 the
# slowest samples need a tenth fewer iterations than at 1 and the others no more; at 0.7 they do.
_WEIGHTS = (0.9, 1.0)


class Modulus:
    """K of an A with ‖A‖∞ < 1, and the memory that its iterations share.

    Args:
        matrix: A (n, n).
        samples: most samples of a solve.

    Attributes:
        weight: ω.
        kernel: K (n, n).
    """

    def __init__(self, matrix: Tensor, samples: int) -> None:
        identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
        weights = torch.tensor(_WEIGHTS, dtype=matrix.dtype, device=matrix.device)[:, None, None]
        kernels = torch.linalg.solve(
            (1 + weights) * identity - matrix, matrix - (1 - weights) * identity
        )
        norms = kernels.abs().sum(dim=2).amax(dim=1).tolist()
        chosen = next((i for i, norm in enumerate(norms) if norm < 1), len(_WEIGHTS) - 1)
        self.weight = _WEIGHTS[chosen]
        self.kernel = kernels[chosen]
        self.kernel_transpose = self.kernel.t()
        self.operator = DenseOperator(matrix)
        self.matrix = matrix
        self.matrix_transpose = matrix.t()
        self._samples = samples
        self._buffers: list[Tensor] = []

    def buffers(self, samples: int) -> list[Tensor]:
        """Return four tensors (samples, n) to work in."""
        if not self._buffers:
            shape = (len(self.matrix), self._samples)
            self._buffers = [self.matrix.new_empty(shape).t() for _ in range(4)]
        if samples == self._samples:
            return self._buffers
        return [buffer[:samples] for buffer in self._buffers]

    def release(self) -> None:
        """Let go of the memory to work in, until it is needed again."""
        self._buffers = []


class ModulusStates(StepIterations, SummedStates):
    """y ← K|y| + (I + K) b with x = relu(y)/ω.

    Args:
        modulus: K of A.
        offset: b.
        start: first iterates x; None to start at relu(b).
    """

    def __init__(self, modulus: Modulus, offset: Tensor, start: Tensor | None) -> None:
        self._modulus = modulus
        self.operator = modulus.operator
        self.inflow = offset
        # y, or z while ``_image`` is relu(z).
        self._y, self._shifted, self._x, self._image = modulus.buffers(offset.shape[0])
        torch.addmm(offset, offset, modulus.kernel_transpose, out=self._shifted)
        if start is None:
            self._y.copy_(offset)
        else:
            torch.addmm(offset, start, modulus.matrix_transpose, out=self._y)
        torch.clamp(self._y, min=0, out=self._image)
        self._is_z = True

    def advance(self, count: int) -> None:
        """Take so many steps."""
        y, shifted, work = self._y, self._shifted, self._image
        kernel, weight = self._modulus.kernel_transpose, self._modulus.weight
        if count and self._is_z:
            self._is_z = False
            if weight != 1:
                y.sub_(work, alpha=1 - weight)
        for _ in range(count):
            torch.abs(y, out=work)
            torch.addmm(shifted, work, kernel, out=y)

    def check(self) -> tuple[Tensor, Tensor]:
        """Take a step; return the iterate before it and its image."""
        if self._is_z:
            self._x, self._image = self._image, self._x
        else:
            torch.clamp(self._y, min=0, out=self._x).div_(self._modulus.weight)
        torch.addmm(self.inflow, self._x, self._modulus.matrix_transpose, out=self._y)
        self._is_z = True
        return self._x, torch.clamp(self._y, min=0, out=self._image)

    def restrict(self, samples: Tensor) -> None:
        """Go on with these samples alone."""
        self.inflow = select(self.inflow, samples)
        self._shifted, self._y = select(self._shifted, samples), select(self._y, samples)
        self._x, self._image = self._x[: samples.shape[0]], select(self._image, samples)


class ModulusAdjoints(StepIterations, SummedAdjoints):
    """w ← Kᵀ(s ⊙ w) + (I + Kᵀ) g with v = d ⊙ w/ω.

    Args:
        modulus: K of A.
        slopes: d, zeros and ones.
        gradient: g.
    """

    def __init__(self, modulus: Modulus, slopes: Tensor, gradient: Tensor) -> None:
        self._modulus = modulus
        self.operator = modulus.operator
        self.slopes = slopes
        self._signs = slopes * 2 - 1
        self.gradient = gradient
        self._w, self._shifted, self._v, self._image = modulus.buffers(gradient.shape[0])
        torch.addmm(gradient, gradient, modulus.kernel, out=self._shifted)
        self._w.copy_(self._shifted)
        self._is_p = False  # w, or p while ``_image`` is d ⊙ p

    def advance(self, count: int) -> None:
        """Take so many steps."""
        w, shifted, signs, work = self._w, self._shifted, self._signs, self._image
        kernel, weight = self._modulus.kernel, self._modulus.weight
        if count and self._is_p:
            self._is_p = False
            if weight != 1:
                w.sub_(work, alpha=1 - weight)
        for _ in range(count):
            torch.mul(w, signs, out=work)
            torch.addmm(shifted, work, kernel, out=w)

    def check(self) -> tuple[Tensor, Tensor]:
        """Take a step; return the iterate before it and its image."""
        if self._is_p:
            self._v, self._image = self._image, self._v
        else:
            torch.mul(self.slopes, self._w, out=self._v).div_(self._modulus.weight)
        torch.addmm(self.gradient, self._v, self._modulus.matrix, out=self._w)
        self._is_p = True
        return self._v, torch.mul(self.slopes, self._w, out=self._image)

    def restrict(self, samples: Tensor) -> None:
        """Go on with these samples alone."""
        count = samples.shape[0]
        self.slopes, self._signs = select(self.slopes, samples), select(self._signs, samples)
        self.gradient = select(self.gradient, samples)
        self._shifted, self._w = select(self._shifted, samples), select(self._w, samples)
        self._v, self._image = self._v[:count], select(self._image, samples)
