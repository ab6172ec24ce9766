"""The interface of a bound."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from idl_cli.certificates.problem import Problem


class Bound(Protocol):
    """Bounds margins from below over all inputs of a region; one file a bound."""

    def __call__(self, problem: Problem) -> Tensor:
        """At least f_i(u) − f_j(u) for all u of a sample's region, i its class.

        Returns:
            Tensor (m, q) float64; +inf where j = i; NaN or −inf where nothing is proven.
        """
