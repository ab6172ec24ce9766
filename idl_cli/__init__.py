"""idl: implicit deep learning from the command line.

The names below are imported on first use, so that ``import idl_cli`` (and with it ``idl --help``)
does not pay for torch.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from idl_cli.models.conversion import from_feedforward as from_feedforward
    from idl_cli.models.implicit import ImplicitModel as ImplicitModel
    from idl_cli.models.rnn import ImplicitRNN as ImplicitRNN
    from idl_cli.run import load_model as load_model
    from idl_cli.sim.sim import SIM as SIM
    from idl_cli.sim.solvers import ADMMMultiGPUSolver as ADMMMultiGPUSolver

from idl_cli.moved import MovedModules

sys.meta_path.append(MovedModules())

__version__ = "0.1.0"

_HOMES: Final = {
    "ADMMMultiGPUSolver": "idl_cli.sim.solvers",
    "ImplicitModel": "idl_cli.models.implicit",
    "ImplicitRNN": "idl_cli.models.rnn",
    "SIM": "idl_cli.sim.sim",
    "from_feedforward": "idl_cli.models.conversion",
    "load_model": "idl_cli.run",
}

__all__ = [
    "SIM",
    "ADMMMultiGPUSolver",
    "ImplicitModel",
    "ImplicitRNN",
    "__version__",
    "from_feedforward",
    "load_model",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'idl_cli' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
