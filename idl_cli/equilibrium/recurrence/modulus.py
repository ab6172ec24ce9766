"""The modulus iteration, which solves a step of a recurrence in half of the plain one's steps.

For φ = relu, relu(z) = (z + |z|)/2 turns the equilibrium of z = A relu(z) + b into

    y = K|y| + (I + K) b            K = ((1 + ω)I − A)⁻¹ (A − (1 − ω)I)        x = relu(y)/ω

with y = ωz for z > 0 and y = z otherwise, for any ω > 0 (modulus iteration of linear
complementarity problems: Bai, Numer. Linear Algebra Appl. 17, 2010, doi:10.1002/nla.680). For ω = 1
it contracts by ‖K‖∞ ≤ κ/(2 − κ) instead of κ where ‖A‖∞ ≤ κ < 1. Trained feedback has one slow,
positive direction, which a smaller ω hastens at the cost of the others: with ω a little below 1
trained weights take half of the plain one's iterations, at the same price each. Likewise the
adjoint p = g + Aᵀ(d ⊙ p), v = d ⊙ p, with d = (1 + s)/2 and signs s in place of the modulus:

    w = Kᵀ(s ⊙ w) + (I + Kᵀ) g       v = d ⊙ w/ω.

Convergence is judged by the residual of the equation itself; the evaluation that this takes is the
next step. Tensors are (m, n), state-major (see ``layout``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from idl_cli.equilibrium.engine import Iterations
from idl_cli.equilibrium.operators import DenseOperator
from idl_cli.equilibrium.residual import SummedAdjoints, SummedStates, select

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


class ModulusStates(Iterations, SummedStates):
    """y ← K|y| + (I + K) b with x = relu(y)/ω.

    Args:
        modulus: K of A.
        offset: b.
        start: first iterates x; None to start at relu(b).
    """

    reused = True

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

    def advance(self, count: int) -> int:
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
        return count

    def look(self) -> tuple[Tensor, Tensor]:
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


class ModulusAdjoints(Iterations, SummedAdjoints):
    """w ← Kᵀ(s ⊙ w) + (I + Kᵀ) g with v = d ⊙ w/ω.

    Args:
        modulus: K of A.
        slopes: d, zeros and ones.
        gradient: g.
    """

    reused = True

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

    def advance(self, count: int) -> int:
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
        return count

    def look(self) -> tuple[Tensor, Tensor]:
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
