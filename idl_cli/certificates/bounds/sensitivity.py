"""The sensitivity matrix in closed form, on differences of classes.

|f_i(u) − f_j(u) − (f_i − f_j)(u⁰)| ≤ s·|u − u⁰|, s = |C_i − C_j| (I − L|A|)⁻¹ L|B| + |D_i − D_j|
(El Ghaoui et al., arXiv 1908.06315, Theorem 4.1, there for single outputs).
"""

from __future__ import annotations

import torch
from torch import Tensor

from idl_cli.certificates.problem import Judged, Problem
from idl_cli.certificates.rounding import above, below, up


class Sensitivity:
    """Keeps the rows s of every class that was asked for; see ``Bound``."""

    def __init__(self) -> None:
        self._rows: dict[int, Tensor] = {}

    def __call__(self, problem: Problem) -> Tensor:
        """Margins at the centres, less s·|u − u⁰| at its largest over the region."""
        margins = problem.centre_margins.clone()
        for label in sorted(set(problem.classes.tolist())):
            of_class = problem.classes == label
            if label not in self._rows:
                equation = problem.judged.equation
                self._rows[label] = rows(
                    problem.judged,
                    equation.C[label] - equation.C,
                    equation.D[label] - equation.D,
                )
            reach = problem.region.select(of_class).reach(self._rows[label])
            margins[of_class] = below(margins[of_class] - reach)
        return problem.without_own(margins)


def rows(judged: Judged, C: Tensor, D: Tensor) -> Tensor:
    """|C| (I − L|A|)⁻¹ L|B| + |D| of rows (k, n) and (k, p), rounded up: Tensor (k, p)."""
    equation, proof = judged.equation, judged.proof
    through = proof.backward.supersolution(up(C.abs()))
    gains = up(through @ above(equation.B.abs() * proof.lipschitz), equation.states)
    return torch.add(up(gains), up(D.abs()))
