"""The numbers of ADMM, apart from what it does with them: every part of a solve needs some."""

from __future__ import annotations

from dataclasses import dataclass

from idl_cli.errors import ArgumentError


@dataclass(frozen=True, kw_only=True)
class ADMMOptions:
    """The numbers of ``ADMMSolver``.

    Args:
        max_iter: largest number of iterations, float32 and float64 together.
        rho: initial penalty ρ > 0 in units of the (unit) diagonal of the scaled gram matrix.
        relaxation: over-relaxation in [1, 2); 1.6 as usual.
        adapt_every: iterations between adjustments of ρ; 0 keeps it fixed. ρ is left alone after
            half of ``max_iter``, so that the convergence proof for fixed ρ applies.
        warm_iterations: first iterations done in float32, at half the cost; 0 for none. 800 find
            most of the support at small λ too, which spares the polish its factorisations.
        check_every: iterations between looks at the certificate.
        polish_passes: factorisations a row and polish; 0 for pure ADMM.
    """

    max_iter: int = 10000
    rho: float = 0.1
    relaxation: float = 1.6
    adapt_every: int = 20
    warm_iterations: int = 800
    check_every: int = 50
    polish_passes: int = 40

    def __post_init__(self) -> None:
        own = type(self).__name__
        if not self.rho > 0:
            raise ArgumentError(f"{own}: rho={self.rho} must be positive")
        if not 1 <= self.relaxation < 2:
            raise ArgumentError(f"{own}: relaxation={self.relaxation} must lie in [1, 2)")
        lowest = {"max_iter": 1, "check_every": 1}
        for name in ("max_iter", "check_every", "adapt_every", "warm_iterations", "polish_passes"):
            least = lowest.get(name, 0)
            if getattr(self, name) < least:
                raise ArgumentError(f"{own}: {name}={getattr(self, name)} must be >= {least}")
