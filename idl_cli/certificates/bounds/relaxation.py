"""A linear relaxation through the equilibrium: duality with CROWN's multipliers."""

from __future__ import annotations

from torch import Tensor

from idl_cli.certificates.bounds.interval import interval
from idl_cli.certificates.duality import Form, Relaxation
from idl_cli.certificates.estimate import Estimate
from idl_cli.certificates.problem import Problem


def relaxation(problem: Problem) -> Tensor:
    """One backward equilibrium a class, on the box of the interval equilibrium; see ``Bound``."""
    equation = problem.judged.equation
    if equation.graph.shape is None:  # nothing is known of φ but its Lipschitz constant
        return interval(problem)
    region, box, form = problem.region, problem.box, Form(*problem.differences)
    multipliers = Estimate.of(equation, region, box.pre_low, box.pre_high).multipliers(form.state)
    return problem.without_own(Relaxation.of(equation, region, box).value(form, multipliers))
