"""Branch and bound from the boxes and margins of ``dual``: what decides a sample in the end."""

from __future__ import annotations

from torch import Tensor

from idl_cli.certificates.bounds.dual import portions, refined
from idl_cli.certificates.bounds.interval import interval
from idl_cli.certificates.branching import BranchAndBound, Found
from idl_cli.certificates.options import CertifyOptions
from idl_cli.certificates.problem import Problem


class Complete:
    """Keeps its limits; see ``Bound``.

    Args:
        branches: boxes of states that are bounded of a sample at most.
        seconds: processor time of a sample at most; None for no limit.
    """

    def __init__(
        self,
        branches: int = CertifyOptions.branches,
        seconds: float | None = CertifyOptions.branch_seconds,
    ) -> None:
        self._branches, self._seconds = branches, seconds

    def __call__(self, problem: Problem) -> Tensor:
        """Margins, as far as the limits let it come; see ``Bound``."""
        return self.search(problem).lower

    def search(self, problem: Problem) -> Found:
        """Margins, and the inputs that lead least."""
        if problem.judged.equation.graph.shape is None:  # there is nothing to cut
            return Found.untried(problem, interval(problem))
        found = []
        for part in portions(problem):
            known = refined(part)
            search = BranchAndBound(
                part, known.box, known.margins, branches=self._branches, seconds=self._seconds
            )
            found.append(search.run())
        return Found.joined(found)
