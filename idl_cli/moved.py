"""Modules that people import by the names they had in version 0.1: found, with a warning.

Only what such scripts can be expected to name: the public names of :mod:`idl_cli` and of
``idl_cli.sim.solvers`` stand where they stood.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from importlib.abc import Loader

_MOVED: Final = {
    "data.arrays": "data.tables.arrays",
    "data.cifar": "data.images.cifar",
    "data.csv_series": "data.series.csv_series",
    "data.digits": "data.images.digits",
    "data.extrapolation": "data.synthetic.extrapolation",
    "data.image_folder": "data.files.image_folder",
    "data.mnist": "data.images.mnist",
    "data.spiky": "data.series.spiky",
    "data.windows": "data.series.windows",
    "equilibrium.implicit_gradient": "equilibrium.gradient.implicit_gradient",
    "sim.agreement": "sim.fit.agreement",
    "sim.assembly": "sim.fit.fitted_model",
    "sim.certificate": "sim.regression.certificate",
    "sim.fitting": "sim.fit.fitting",
    "sim.path": "sim.fit.path",
    "sim.problem": "sim.regression.problem",
    "sim.prox": "sim.regression.prox",
    "sim.recorders": "sim.states.recorders",
    "sim.recording": "sim.states.recording",
    "sim.rescaling": "sim.states.state_scale",
    "sim.solve": "sim.regression.solve",
    "sim.solvers.base": "sim.regression.solver",
}
"""Old name → new name, below ``idl_cli``."""


class MovedModules:
    """Finds a module under its old name; it is the same module object as under the new one.

    A finder and loader by its methods: the base classes of ``importlib.abc`` take as long to import
    as all the rest of ``idl --help``.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's spec where the name is an old one, else None."""
        package, _, name = fullname.partition(".")
        if package != "idl_cli" or name not in _MOVED:
            return None
        return ModuleSpec(fullname, cast("Loader", self))

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """An empty one; ``exec_module`` puts the real one in its place."""
        return ModuleType(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Import the module by its new name, and say so."""
        old = module.__name__
        new = f"idl_cli.{_MOVED[old.partition('.')[2]]}"
        warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=2)
        sys.modules[old] = import_module(new)
