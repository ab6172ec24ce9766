"""Lipschitz bounds of the outputs, from the sensitivity matrix S in closed form, rounded up.

|ŷ(u) − ŷ(u′)| ≤ S |u − u′| with S = |C| (I − L|A|)⁻¹ L|B| + |D|, so that the l∞ bound is the
largest row sum of S, and the l2 bound its spectral norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from idl_cli.certificates.bounds.sensitivity import rows
from idl_cli.certificates.problem import Judged
from idl_cli.certificates.rounding import above, up

_POWER_STEPS: Final = 50
_MOST_CLASSES: Final = 100  # of which all pairs are looked at


@dataclass(frozen=True)
class LipschitzBounds:
    """How fast outputs can change with inputs, in outputs for a unit of the data.

    Attributes:
        sensitivity: S (q, p).
        linf: max_i |ŷ_i(v) − ŷ_i(v′)| ≤ linf ‖v − v′‖∞.
        l2: ‖ŷ(v) − ŷ(v′)‖₂ ≤ l2 ‖v − v′‖₂.
        margin_linf: the same as ``linf`` of every difference of two outputs; None where there are
            too many.
    """

    sensitivity: Tensor
    linf: float
    l2: float
    margin_linf: float | None

    @classmethod
    def of(cls, judged: Judged, deviation: Tensor) -> LipschitzBounds:
        """Bound a model's outputs.

        Args:
            judged: the model.
            deviation: of the inputs (p,): u = (v − mean) / deviation.
        """
        equation = judged.equation

        def per_unit(C: Tensor, D: Tensor) -> Tensor:
            return above(rows(judged, C, D) / deviation)

        S = per_unit(equation.C, equation.D)
        margin = None
        if 1 < equation.outputs <= _MOST_CLASSES:
            C, D = equation.C, equation.D
            pairs = (per_unit(C[i] - C[:i], D[i] - D[:i]) for i in range(1, len(C)))
            margin = max(map(_largest_sum, pairs))
        return cls(S, _largest_sum(S), spectral_norm_bound(S), margin)

    def figures(self) -> dict[str, object]:
        """What is told of it."""
        return {"linf": self.linf, "l2": self.l2, "margin_linf": self.margin_linf}


def spectral_norm_bound(matrix: Tensor) -> float:
    """At least ‖S‖₂ of a non-negative S: √ρ(SᵀS) by Collatz-Wielandt, rounded up.

    Any v > 0 gives a bound; power steps bring it near.
    """
    vector = matrix.sum(0) + 1e-3 * matrix.sum() / matrix.shape[1]
    largest = float(vector.max())
    if not largest > 0:
        return 0.0
    vector, best = vector / largest, float("inf")
    for _ in range(_POWER_STEPS):
        following = up(matrix.t() @ up(matrix @ vector, len(vector)), len(matrix))
        best = min(best, float(above(following / vector).max()))
        vector = (following / following.max()).clamp(min=1e-12)
    return float(above(torch.tensor(best, dtype=torch.float64).sqrt()))


def _largest_sum(matrix: Tensor) -> float:
    return float(up(matrix.sum(1), matrix.shape[1]).max())
