"""A linear relaxation through the equilibrium: duality with CROWN's multipliers."""

from __future__ import annotations

from torch import Tensor

from idl_cli.certificates.bounds.interval import interval
from idl_cli.certificates.duality import Form, Relaxation
from idl_cli.certificates.problem import Problem


def relaxation(problem: Problem) -> Tensor:
    """One backward equilibrium a class, on the box of the interval equilibrium; see ``Bound``."""
    equation = problem.judged.equation
    if equation.graph.shape is None:  # nothing is known of φ but its Lipschitz constant
        return interval(problem)
    relaxed = Relaxation.of(equation, problem.region, problem.box)
    form = Form(*problem.differences)
    return problem.without_own(relaxed.value(form, relaxed.multipliers(form)))
