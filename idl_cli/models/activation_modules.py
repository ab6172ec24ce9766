"""The activations as torch modules: name to module, and module back to name."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from torch import nn

from idl_cli.errors import ArgumentError

# relu6 is a hardtanh to torch, so it must be asked for first.
_MODULES: Final = MappingProxyType(
    {
        "relu": nn.ReLU,
        "leaky_relu": nn.LeakyReLU,
        "tanh": nn.Tanh,
        "sigmoid": nn.Sigmoid,
        "elu": nn.ELU,
        "softplus": nn.Softplus,
        "softsign": nn.Softsign,
        "relu6": nn.ReLU6,
        "hardtanh": nn.Hardtanh,
        "hardsigmoid": nn.Hardsigmoid,
        "logsigmoid": nn.LogSigmoid,
        "softshrink": nn.Softshrink,
        "gelu": nn.GELU,
        "silu": nn.SiLU,
        "mish": nn.Mish,
        "selu": nn.SELU,
        "hardswish": nn.Hardswish,
    }
)


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


def activation_name(module: nn.Module) -> str | None:
    """The name of the activation that ``module`` applies, None when it is no activation of ours.

    The class alone decides: whether the module computes what its class promises (a leaky ReLU's
    slope, an overridden ``forward``) is for the caller to check on numbers.
    """
    return next((name for name, kind in _MODULES.items() if isinstance(module, kind)), None)
