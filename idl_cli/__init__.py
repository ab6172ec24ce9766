"""idl: implicit deep learning from the command line.

The names below are imported on first use, so that ``import idl_cli`` (and with it ``idl --help``)
does not pay for torch.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from idl_cli.equilibrium.any_map import fixed_point as fixed_point
    from idl_cli.equilibrium.any_map import jacobian_penalty as jacobian_penalty
    from idl_cli.equilibrium.any_map import spectral_radius as spectral_radius
    from idl_cli.estimators.implicit import ImplicitClassifier as ImplicitClassifier
    from idl_cli.estimators.implicit import ImplicitRegressor as ImplicitRegressor
    from idl_cli.estimators.row_lasso import RowLasso as RowLasso
    from idl_cli.models.conversion import from_feedforward as from_feedforward
    from idl_cli.models.equilibrium_layer import Equilibrium as Equilibrium
    from idl_cli.models.implicit import ImplicitModel as ImplicitModel
    from idl_cli.models.rnn import ImplicitRNN as ImplicitRNN
    from idl_cli.models.tracing.network import from_network as from_network
    from idl_cli.run import load_model as load_model
    from idl_cli.sim.sim import SIM as SIM
    from idl_cli.sim.solvers import ADMMMultiGPUSolver as ADMMMultiGPUSolver

from idl_cli.moved import MovedModules

sys.meta_path.append(MovedModules())

__version__ = "0.1.0"

_HOMES: Final = {
    "ADMMMultiGPUSolver": "idl_cli.sim.solvers",
    "Equilibrium": "idl_cli.models.equilibrium_layer",
    "ImplicitClassifier": "idl_cli.estimators.implicit",
    "ImplicitModel": "idl_cli.models.implicit",
    "ImplicitRNN": "idl_cli.models.rnn",
    "ImplicitRegressor": "idl_cli.estimators.implicit",
    "RowLasso": "idl_cli.estimators.row_lasso",
    "SIM": "idl_cli.sim.sim",
    "from_feedforward": "idl_cli.models.conversion",
    "from_network": "idl_cli.models.tracing.network",
    "fixed_point": "idl_cli.equilibrium.any_map",
    "jacobian_penalty": "idl_cli.equilibrium.any_map",
    "load_model": "idl_cli.run",
    "spectral_radius": "idl_cli.equilibrium.any_map",
}

__all__ = [
    "SIM",
    "ADMMMultiGPUSolver",
    "Equilibrium",
    "ImplicitClassifier",
    "ImplicitModel",
    "ImplicitRNN",
    "ImplicitRegressor",
    "RowLasso",
    "__version__",
    "fixed_point",
    "from_feedforward",
    "from_network",
    "jacobian_penalty",
    "load_model",
    "spectral_radius",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'idl_cli' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
