"""Solves that did not converge, reported once a pass instead of one by one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from idl_cli.equilibrium.statistics import SolveStatistics
from idl_cli.errors import ConvergenceWarning

_KINDS = (("forward", "equilibria"), ("backward", "adjoint states (gradients)"))


@contextmanager
def single_warnings_off(statistics: SolveStatistics | None) -> Iterator[None]:
    """Keep statistics from warning of single solves within the context."""
    if statistics is None:
        yield
        return
    before, statistics.warn = statistics.warn, False
    try:
        yield
    finally:
        statistics.warn = before


def warn_if_unconverged(statistics: SolveStatistics | None, where: str) -> None:
    """Warn of the solves since the last reset that did not converge: count, share, worst residual.

    Args:
        statistics: of the model; None where it solves nothing.
        where: which pass, for the message.
    """
    if statistics is None:
        return
    state = statistics.state_dict()
    for direction, what in _KINDS:
        counts = state[direction]
        failed, samples = int(counts["unconverged"]), int(counts["samples"])
        if failed:
            warnings.warn(
                f"{where}: {failed} of {samples} {what} did not converge ({failed / samples:.2%};"
                f" largest residual {counts['residual_max']:.2g}); raise"
                f" model.{direction}.max_iter, or lower optimizer.lr or an implicit model's"
                " model.kappa",
                ConvergenceWarning,
                stacklevel=3,
            )
