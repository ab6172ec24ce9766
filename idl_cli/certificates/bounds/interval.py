"""The interval equilibrium, and differences of classes over its box."""

from __future__ import annotations

from torch import Tensor

from idl_cli.certificates.problem import Problem


def interval(problem: Problem) -> Tensor:
    """(C_i − C_j) x + (D_i − D_j) u over the box of states and the region; see ``Bound``."""
    box = problem.box
    return problem.linear_margins(box.centre, box.radius, problem.region)
