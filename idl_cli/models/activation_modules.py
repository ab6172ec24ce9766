"""The activations as torch modules: name to module, and module back to name."""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import Final

from torch import nn

from idl_cli.equilibrium.conditions import ACTIVATION_FACTS
from idl_cli.errors import ArgumentError


def _module_class(path: str) -> type[nn.Module]:
    module, _, attribute = path.rpartition(":")
    found: type[nn.Module] = getattr(import_module(module or "torch.nn"), attribute)
    return found


_MODULES: Final = MappingProxyType(
    {
        name: _module_class(facts.module)
        for name, facts in ACTIVATION_FACTS.items()
        if facts.module is not None
    }
)

_OTHERS: Final = (nn.CELU, nn.Hardshrink, nn.PReLU, nn.RReLU, nn.Tanhshrink, nn.Threshold)
"""Elementwise ones without a name here."""


def activation_module_names() -> tuple[str, ...]:
    """The activations that exist as torch modules."""
    return tuple(_MODULES)


def activation_module(name: str) -> nn.Module:
    """A new module that applies the activation called ``name``.

    Raises:
        ArgumentError: no torch module is known under that name.
    """
    if name not in _MODULES:
        raise ArgumentError(
            f"activation={name!r} has no torch module: choose one of {', '.join(_MODULES)}"
        )
    module: nn.Module = _MODULES[name]()
    return module


def keeps_forward(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether calling ``module`` runs the ``forward`` that ``kind`` defines, hooks aside."""
    own = type(module)
    return (
        own.forward is kind.forward
        and own.__call__ is nn.Module.__call__
        and "forward" not in vars(module)
    )


def activation_name(module: nn.Module) -> str | None:
    """The name of the activation that ``module`` applies, None when it is none of ours.

    What a module computes is told by its ``forward`` and its parameters, which must be exactly
    torch's defaults, never by values at some points: a clipping at 50 shows at few of them.
    """
    for name, kind in _MODULES.items():
        if keeps_forward(module, kind) and _parameters(module) == _parameters(kind()):
            return name
    return None


def applies_activation(module: nn.Module) -> bool:
    """Whether ``module`` is meant as an elementwise nonlinearity, one of ours or not."""
    return isinstance(module, (*_MODULES.values(), *_OTHERS))


def why_unknown(module: nn.Module) -> str:
    """What is wrong with an activation that has no name here: the end of a sentence on it."""
    meant = next((name for name, kind in _MODULES.items() if type(module) is kind), None)
    if meant is None:  # the most derived: ReLU6 is a Hardtanh
        kinds = [name for name, kind in _MODULES.items() if isinstance(module, kind)]
        meant = max(kinds, key=lambda name: len(_MODULES[name].__mro__), default=None)
    return (
        f"does not compute {meant or 'an activation known here'} ({module}): its parameters are "
        f"not torch's defaults, or its forward is its own; known are {', '.join(_MODULES)}"
    )


def _parameters(module: nn.Module) -> dict[str, object]:
    """Slopes, limits and the like: what a module holds beyond any module, numbers and words."""
    common = vars(nn.Module()).keys() | {"inplace"}
    return {
        name: value if isinstance(value, int | float | str) else repr(value)
        for name, value in vars(module).items()
        if name not in common
    }
