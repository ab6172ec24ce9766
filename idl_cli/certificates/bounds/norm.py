"""The norm bound: ‖C_i − C_j‖ ‖B‖ / (1 − κ) + ‖D_i − D_j‖, times the largest radius.

In the norm max_i |x_i| / t_i of the weights t that prove κ = max_i (L|A|t)_i / t_i < 1; with t = 1
it is the bound of El Ghaoui et al. (arXiv 1908.06315, §4) in ‖·‖∞.
"""

from __future__ import annotations

from torch import Tensor

from idl_cli.certificates.problem import Problem
from idl_cli.certificates.rounding import above, below, up


def norm(problem: Problem) -> Tensor:
    """Margins at the centres, less what norms allow; see ``Bound``."""
    C, D, _ = problem.differences
    equation, proof = problem.judged.equation, problem.judged.proof
    contraction = proof.forward
    gain = up(equation.B.abs().sum(1), equation.inputs) / contraction.weights
    factor = up(gain.max() * proof.lipschitz / (1 - contraction.ratio), 4)
    through = up(C.abs() @ contraction.weights, equation.states + 1) * factor
    direct = up(D.abs().sum(2), equation.inputs + 1)
    largest = problem.region.radius.amax(1, keepdim=True)
    loss = above(above(above(through) + direct) * largest)
    return problem.without_own(below(problem.centre_margins - loss))
