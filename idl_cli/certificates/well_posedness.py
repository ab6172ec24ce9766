"""Proof that every input has one equilibrium, and upper bounds of what (I − L|A|)⁻¹ makes.

Any t > 0 gives ρ(M) ≤ max_i (M t)_i / t_i for M ≥ 0 (Collatz-Wielandt), here evaluated rounded up:
below 1 it proves that x = φ(Ax + Bu) has one solution, whatever computed t.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from idl_cli.certificates.equation import Equation
from idl_cli.certificates.rounding import UNIT, above, up
from idl_cli.equilibrium.sweep_order import SweepOrder
from idl_cli.errors import UnsupportedModelError
from idl_cli.models.rescaling import contraction_scale

_POWER_STEPS = 60  # cycles of up to six states are whole in them
_INFLATIONS = 8


@dataclass(frozen=True)
class Contraction:
    """A non-negative matrix M with M t ≤ ``ratio`` t, ``ratio`` < 1: proven, not estimated.

    Attributes:
        matrix: M (n, n), float64.
        weights: t (n,), positive.
        ratio: at least max_i (M t)_i / t_i, hence at least ρ(M).
    """

    matrix: Tensor
    weights: Tensor
    ratio: float

    @classmethod
    def prove(cls, matrix: Tensor) -> Contraction:
        """Find the weights.

        Raises:
            UnsupportedModelError: none were found, as where ρ(M) ≥ 1.
        """
        best = cls(matrix, torch.ones_like(matrix[0]), _ratio(matrix, torch.ones_like(matrix[0])))
        estimate = _estimate(matrix)
        for scale in (1.001 * estimate, 1.05 * estimate, 0.5, 1 - 1e-12):
            # a small scale asks for weights that differ by more than float64 holds
            if not 1e-3 < scale < 1:
                continue
            try:
                weights = contraction_scale(matrix, scale)
            except UnsupportedModelError:
                continue
            if not bool(weights.isfinite().all()):
                continue
            found = cls(matrix, weights, _ratio(matrix, weights))
            best = min(best, found, key=lambda each: each.ratio)
            if found.ratio < 1:
                break
        if not best.ratio < 1:
            raise UnsupportedModelError(
                f"no proof that the equilibrium is unique: the least upper bound found of the "
                f"spectral radius of L|A| is {best.ratio:.6g}, and it must be below 1 (estimate "
                f"{estimate:.6g}, ‖A‖∞ L = {_ratio(matrix, torch.ones_like(matrix[0])):.6g}); train"
                " with well_posedness=linf or triangular"
            )
        return best

    def supersolution(self, right: Tensor) -> Tensor:
        """At least (I − M)⁻¹ w for every row w ≥ 0 of ``right`` (m, n), proven entry by entry.

        X ≥ w + M X implies X ≥ (I − M)⁻¹ w: an approximate solution is raised along t until it
        holds, rounded up. Rows that overflow become infinite.
        """
        n = len(self.matrix)
        found: Tensor = torch.linalg.lu_solve(*self._factors, right.t()).t().clamp(min=0)
        margin = 1 - self.ratio
        for attempt in range(_INFLATIONS):
            lacking = up(up(found @ self.matrix.t(), n) + right) - found
            missing = (lacking / self.weights).amax(1, keepdim=True)
            if not bool((lacking > 0).any()):
                return found
            found = found + self.weights * (missing.clamp(min=0) * (2.0**attempt / margin))
        lacking = up(up(found @ self.matrix.t(), n) + right) - found
        failed = ~(lacking <= 0).all(1, keepdim=True)
        return found.masked_fill(failed, torch.inf)

    @cached_property
    def _factors(self) -> tuple[Tensor, Tensor]:
        identity = torch.eye(len(self.matrix), dtype=self.matrix.dtype)
        factors, pivots = torch.linalg.lu_factor(identity - self.matrix)
        return factors, pivots


@dataclass(frozen=True)
class WellPosedness:
    """The proof for a model, in what ``certify.json`` says of it.

    Attributes:
        forward: of L|A|.
        backward: of its transpose.
        lipschitz: L of φ.
        inf_norm: ‖A‖∞, rounded up.
        radius: an upper bound of ρ(|A|), 0 where A is strictly triangular in some order.
        proof: ``triangular``, ``inf_norm`` or ``collatz_wielandt``.
    """

    forward: Contraction
    backward: Contraction
    lipschitz: float
    inf_norm: float
    radius: float
    proof: str

    @classmethod
    def prove(cls, equation: Equation) -> WellPosedness:
        """Prove it.

        Raises:
            UnsupportedModelError: ρ(L|A|) < 1 cannot be proven.
        """
        lipschitz = equation.graph.activation.lipschitz * (1 + 8 * UNIT)
        matrix = above(equation.magnitude * lipschitz) * (equation.magnitude > 0)
        forward = Contraction.prove(matrix)
        backward = Contraction.prove(matrix.t().contiguous())
        ones = torch.ones_like(matrix[0])
        inf_norm = _ratio(equation.magnitude, ones)
        if SweepOrder().of(equation.magnitude) is not None:
            radius, proof = 0.0, "triangular"
        else:
            radius = forward.ratio / lipschitz * (1 + 8 * UNIT)
            proof = "inf_norm" if inf_norm <= radius else "collatz_wielandt"
        return cls(forward, backward, lipschitz, inf_norm, radius, proof)

    def figures(self) -> dict[str, object]:
        """What is told of it."""
        return {
            "proof": self.proof,
            "spectral_radius_bound": self.radius,
            "inf_norm_A": self.inf_norm,
            "activation_lipschitz": self.lipschitz,
        }


def _ratio(matrix: Tensor, weights: Tensor) -> float:
    if not len(matrix):
        return 0.0
    return float(above(up(matrix @ weights, len(matrix)) / weights).max())


def _estimate(matrix: Tensor) -> float:
    """About ρ(M): the mean growth of power steps, which of a cyclic M grow by turns."""
    vector = torch.ones_like(matrix[0])
    growth = 0.0
    for step in range(2 * _POWER_STEPS):
        following = matrix @ vector
        value = float(following.max())
        if not 0 < value < math.inf:
            return value
        vector = following / value + 1e-9
        growth += math.log(value) if step >= _POWER_STEPS else 0.0
    return math.exp(growth / _POWER_STEPS)
