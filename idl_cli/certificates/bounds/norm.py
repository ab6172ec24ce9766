"""The norm bound: ‖C_i − C_j‖₁ ‖B‖∞ / (1 − κ) + ‖D_i − D_j‖₁, times the largest radius.

κ is ‖L|A|‖∞ (El Ghaoui et al., arXiv 1908.06315, §4). Where it is 1 or more, as in the implicit
form of a network, |C_i − C_j| (I − L|A|)⁻¹ 1 stands for ‖C_i − C_j‖₁ / (1 − κ), which it never
exceeds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from idl_cli.certificates.problem import Problem
from idl_cli.certificates.rounding import above, below, up


def norm(problem: Problem) -> Tensor:
    """Margins at the centres, less what norms allow; see ``Bound``."""
    C, D, _ = problem.differences
    equation, proof = problem.judged.equation, problem.judged.proof
    ones = torch.ones_like(equation.state_bias)
    kappa = proof.inf_norm * proof.lipschitz
    if kappa < 1:
        amplified = up(ones / (1 - above(ones * kappa)), 4)
    else:
        amplified = proof.forward.supersolution(ones[None])[0]
    gain = up(equation.B.abs().sum(1), equation.inputs).max() * proof.lipschitz
    through = up(C.abs() @ amplified, equation.states + 1) * up(gain)
    direct = up(D.abs().sum(2), equation.inputs + 1)
    largest = problem.region.radius.amax(1, keepdim=True)
    loss = above(above(above(through) + direct) * largest)
    return problem.without_own(below(problem.centre_margins - loss))
