"""The iterations that solve a step of a recurrence: plain (Picard) ones, and modulus ones.

For φ = relu, relu(z) = (z + |z|)/2 turns the equilibrium of z = A relu(z) + b into

    z = K|z| + (I + K) b            K = (I − A/2)⁻¹ A/2,

which contracts by ‖K‖∞ ≤ κ/(2 − κ) instead of κ where ‖A‖∞ ≤ κ < 1 (modulus iteration of linear
complementarity problems: Bai, Numer. Linear Algebra Appl. 17, 2010, doi:10.1002/nla.680). For
trained weights it takes two thirds of the iterations, at the same price each. Likewise the adjoint
w = g + Aᵀ(d ⊙ w), v = d ⊙ w, with d = (1 + s)/2 and signs s in place of the modulus:

    w = Kᵀ(s ⊙ w) + (I + Kᵀ) g.

Whatever the iteration, convergence is judged by the residual of the equation itself; the evaluation
that this takes is the next step.

Tensors are (m, n), state-major (see ``narrow_driver``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from idl_cli.equilibrium.activations import Activation
from idl_cli.equilibrium.operators import Operator


def select(x: Tensor, samples: Tensor) -> Tensor:
    """Return the rows of x (m, n) at these indices (k,), state-major."""
    return x.t().index_select(1, samples).t()


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


class PlainStates(StepIterations):
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
        self._operator = operator
        self._activation = activation
        self._offset = offset
        self._x = start
        self._next, self._spare = buffers

    def advance(self, count: int) -> None:
        """Take so many steps."""
        apply, act, offset = self._operator.apply, self._activation.in_place, self._offset
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
        self._offset, self._x = select(self._offset, samples), select(self._x, samples)
        self._next, self._spare = self._next[: samples.shape[0]], self._spare[: samples.shape[0]]


class PlainAdjoints(StepIterations):
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
        self._operator = operator
        self._slopes = slopes
        self._gradient = gradient
        self._next, self._spare = buffers
        self._v = torch.mul(slopes, gradient, out=self._spare)

    def advance(self, count: int) -> None:
        """Take so many steps."""
        apply, slopes, gradient = self._operator.apply_transpose, self._slopes, self._gradient
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
        self._slopes = select(self._slopes, samples)
        self._gradient = select(self._gradient, samples)
        self._v = select(self._v, samples)
        self._next, self._spare = self._next[: samples.shape[0]], self._spare[: samples.shape[0]]


class Modulus:
    """K of an A with ‖A‖∞ < 1, and the memory that its iterations share.

    Args:
        matrix: A (n, n).
        samples: most samples of a solve.
    """

    def __init__(self, matrix: Tensor, samples: int) -> None:
        half = matrix / 2
        identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
        self.kernel = torch.linalg.solve(identity - half, half)
        self.kernel_transpose = self.kernel.t()
        self.matrix = matrix
        self.matrix_transpose = matrix.t()
        size = len(matrix)
        self._buffers = [matrix.new_empty(size, samples).t() for _ in range(4)]

    def buffers(self, samples: int) -> list[Tensor]:
        """Return four tensors (samples, n) to work in."""
        return [buffer[:samples] for buffer in self._buffers]


class ModulusStates(StepIterations):
    """z ← K|z| + (I + K) b with x = relu(z).

    Args:
        modulus: K of A.
        offset: b.
        start: first iterates x; None to start at relu(b).
    """

    def __init__(self, modulus: Modulus, offset: Tensor, start: Tensor | None) -> None:
        self._modulus = modulus
        self._offset = offset
        self._z, self._shifted, self._x, self._image = modulus.buffers(offset.shape[0])
        torch.addmm(offset, offset, modulus.kernel_transpose, out=self._shifted)
        if start is None:
            self._z.copy_(offset)
        else:
            torch.addmm(offset, start, modulus.matrix_transpose, out=self._z)

    def advance(self, count: int) -> None:
        """Take so many steps."""
        z, shifted, work = self._z, self._shifted, self._image
        kernel = self._modulus.kernel_transpose
        for _ in range(count):
            torch.abs(z, out=work)
            torch.addmm(shifted, work, kernel, out=z)

    def check(self) -> tuple[Tensor, Tensor]:
        """Take a step; return the iterate before it and its image."""
        x = torch.clamp(self._z, min=0, out=self._x)
        torch.addmm(self._offset, x, self._modulus.matrix_transpose, out=self._z)
        return x, torch.clamp(self._z, min=0, out=self._image)

    def restrict(self, samples: Tensor) -> None:
        """Go on with these samples alone."""
        count = samples.shape[0]
        self._offset = select(self._offset, samples)
        self._shifted, self._z = select(self._shifted, samples), select(self._z, samples)
        self._x, self._image = self._x[:count], self._image[:count]


class ModulusAdjoints(StepIterations):
    """w ← Kᵀ(s ⊙ w) + (I + Kᵀ) g with v = d ⊙ w.

    Args:
        modulus: K of A.
        slopes: d, zeros and ones.
        gradient: g.
    """

    def __init__(self, modulus: Modulus, slopes: Tensor, gradient: Tensor) -> None:
        self._modulus = modulus
        self._slopes = slopes
        self._signs = slopes * 2 - 1
        self._gradient = gradient
        self._w, self._shifted, self._v, self._image = modulus.buffers(gradient.shape[0])
        torch.addmm(gradient, gradient, modulus.kernel, out=self._shifted)
        self._w.copy_(self._shifted)

    def advance(self, count: int) -> None:
        """Take so many steps."""
        w, shifted, signs, work = self._w, self._shifted, self._signs, self._image
        kernel = self._modulus.kernel
        for _ in range(count):
            torch.mul(w, signs, out=work)
            torch.addmm(shifted, work, kernel, out=w)

    def check(self) -> tuple[Tensor, Tensor]:
        """Take a step; return the iterate before it and its image."""
        v = torch.mul(self._slopes, self._w, out=self._v)
        torch.addmm(self._gradient, v, self._modulus.matrix, out=self._w)
        return v, torch.mul(self._slopes, self._w, out=self._image)

    def restrict(self, samples: Tensor) -> None:
        """Go on with these samples alone."""
        count = samples.shape[0]
        self._slopes, self._signs = select(self._slopes, samples), select(self._signs, samples)
        self._gradient = select(self._gradient, samples)
        self._shifted, self._w = select(self._shifted, samples), select(self._w, samples)
        self._v, self._image = self._v[:count], self._image[:count]
