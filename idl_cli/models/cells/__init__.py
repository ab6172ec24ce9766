"""The cells of ``model=deq``: f(x, u) of a fixed point x = f(x, u), one a file.

A cell is an ``nn.Module`` made of ``input_dim`` and ``hidden_dim`` that maps states (m, hidden_dim)
and inputs (m, input_dim) to the shape of the states, each sample by itself and the same at every
call.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

CELLS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "residual": "idl_cli.models.cells.residual:ResidualCell",
        "tanh": "idl_cli.models.cells.tanh:TanhCell",
    }
)
"""Name → ``"module:class"``: a new cell is a file and a line here."""

if TYPE_CHECKING:
    CellName: TypeAlias = str
else:
    CellName = Literal[tuple(CELLS)]
