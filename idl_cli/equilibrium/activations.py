"""Activations φ, each with its derivative and the facts the theory asks for.

Parameters are torch's defaults: slope 0.01 for leaky_relu, α = 1 for elu, λ = 0.5 for softshrink,
gelu in its exact (erf) form. At a kink the derivative is the one torch's own backward uses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from idl_cli.equilibrium.conditions import ACTIVATION_FACTS
from idl_cli.equilibrium.transforms import transforming
from idl_cli.errors import ArgumentError

ElementwiseMap = Callable[[Tensor], Tensor]
ActivationMaps = tuple[ElementwiseMap, ElementwiseMap, ElementwiseMap]
"""φ into a new tensor, φ free to overwrite its argument, and φ′."""

LEAKY_RELU_SLOPE: Final = 0.01
SOFTSHRINK_LAMBDA: Final = 0.5


@dataclass(frozen=True)
class Activation:
    """A componentwise φ with what the equilibrium needs to know of it.

    Attributes:
        name: the name it is chosen by.
        function: φ, into a new tensor.
        in_place: φ, free to overwrite its argument; returns the result.
        derivative: φ′ at a pre-activation.
        lipschitz: the smallest Lipschitz constant L of φ; non-expansive means L ≤ 1.
        positively_homogeneous: whether φ(αz) = αφ(z) for every α ≥ 0: what exact diagonal
            rescaling needs.
    """

    name: str
    function: ElementwiseMap
    in_place: ElementwiseMap
    derivative: ElementwiseMap
    lipschitz: float
    positively_homogeneous: bool

    def __reduce__(self) -> tuple[Callable[[str], Activation], tuple[str]]:
        # Torch's in-place builtins do not pickle; the name says everything.
        return get_activation, (self.name,)


def get_activation(name: str) -> Activation:
    """Return the activation of that name.

    Raises:
        ArgumentError: the name is unknown; the message lists those there are.
    """
    if name not in ACTIVATION_FACTS:
        raise ArgumentError(
            f"activation={name!r} is not known: choose one of {', '.join(activation_names())}."
        )
    facts = ACTIVATION_FACTS[name]
    maps: ActivationMaps
    if facts.maps is None:
        maps = _MAPS[name]
    else:
        module, _, attribute = facts.maps.partition(":")
        maps = getattr(import_module(module), attribute)
    return Activation(name, *maps, facts.lipschitz, facts.positively_homogeneous)


def activation_names() -> tuple[str, ...]:
    """Return the names that ``get_activation`` knows."""
    return tuple(ACTIVATION_FACTS)


def _indicator(condition: Tensor, z: Tensor) -> Tensor:
    # NaN where z is: a slope of 0 would make a gradient of 0 of a solve that failed.
    return torch.where(z.isnan(), torch.nan, condition.to(z.dtype))


def _relu_derivative(z: Tensor) -> Tensor:
    if transforming():
        return _indicator(z > 0, z)
    # As numbers at once: a quarter of the time of a comparison and a conversion. NaN stays NaN.
    return (z.detach() if torch.is_grad_enabled() else z).clamp(0, 1).ceil_()


def _leaky_relu_in_place(z: Tensor) -> Tensor:
    return functional.leaky_relu_(z, LEAKY_RELU_SLOPE)


def _leaky_relu_derivative(z: Tensor) -> Tensor:
    # Filled in z's own dtype: a choice between two plain numbers would be made in float32.
    return torch.ones_like(z).masked_fill_(z <= 0, LEAKY_RELU_SLOPE)


def _tanh_derivative(z: Tensor) -> Tensor:
    return 1 - torch.tanh(z).square()


def _sigmoid_derivative(z: Tensor) -> Tensor:
    value = torch.sigmoid(z)
    return value * (1 - value)


def _identity(z: Tensor) -> Tensor:
    return z.clone()


def _identity_in_place(z: Tensor) -> Tensor:
    return z


def _elu_derivative(z: Tensor) -> Tensor:
    return torch.exp(z.clamp(max=0))


def _softsign_derivative(z: Tensor) -> Tensor:
    return (1 + z.abs()).square().reciprocal()


def _hardtanh_derivative(z: Tensor) -> Tensor:
    return _indicator(z.abs() < 1, z)


def _relu6_in_place(z: Tensor) -> Tensor:
    return functional.relu6(z, inplace=True)


def _relu6_derivative(z: Tensor) -> Tensor:
    return _indicator((z > 0) & (z < 6), z)


def _hardsigmoid_in_place(z: Tensor) -> Tensor:
    value: Tensor = functional.hardsigmoid(z, inplace=True)
    return value


def _hardsigmoid_derivative(z: Tensor) -> Tensor:
    return _indicator(z.abs() < 3, z) / 6


def _logsigmoid_derivative(z: Tensor) -> Tensor:
    return torch.sigmoid(-z)


def _softshrink_derivative(z: Tensor) -> Tensor:
    return _indicator(z.abs() > SOFTSHRINK_LAMBDA, z)


def _arctan_derivative(z: Tensor) -> Tensor:
    return (1 + z.square()).reciprocal()


def _abs_derivative(z: Tensor) -> Tensor:
    return torch.where(z.isnan(), torch.nan, z.sign())


def _gelu_derivative(z: Tensor) -> Tensor:
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
    distribution: Tensor = torch.special.ndtr(z)
    return distribution + z * density


def _silu_in_place(z: Tensor) -> Tensor:
    return functional.silu(z, inplace=True)


def _silu_derivative(z: Tensor) -> Tensor:
    value = torch.sigmoid(z)
    return value * (1 + z * (1 - value))


def _mish_in_place(z: Tensor) -> Tensor:
    return functional.mish(z, inplace=True)


def _mish_derivative(z: Tensor) -> Tensor:
    value = torch.tanh(functional.softplus(z))
    return value + z * torch.sigmoid(z) * (1 - value.square())


def _selu_derivative(z: Tensor) -> Tensor:
    # selu is λz above zero and λα(exp z − 1) below; L = λα is its slope just below zero.
    scale, slope = 1.0507009873554805, ACTIVATION_FACTS["selu"].lipschitz
    return torch.where(z > 0, scale, slope * torch.exp(z.clamp(max=0)))


def _hardswish_in_place(z: Tensor) -> Tensor:
    return functional.hardswish(z, inplace=True)


def _hardswish_derivative(z: Tensor) -> Tensor:
    return torch.where(z.abs() < 3, (2 * z + 3) / 6, _indicator(z >= 3, z))


_MAPS: Final[Mapping[str, ActivationMaps]] = MappingProxyType(
    {
        "relu": (torch.relu, torch.relu_, _relu_derivative),
        "leaky_relu": (functional.leaky_relu, _leaky_relu_in_place, _leaky_relu_derivative),
        "tanh": (torch.tanh, Tensor.tanh_, _tanh_derivative),
        "sigmoid": (torch.sigmoid, Tensor.sigmoid_, _sigmoid_derivative),
        "identity": (_identity, _identity_in_place, torch.ones_like),
        "elu": (functional.elu, functional.elu_, _elu_derivative),
        "softplus": (functional.softplus, functional.softplus, torch.sigmoid),
        "softsign": (functional.softsign, functional.softsign, _softsign_derivative),
        "hardtanh": (functional.hardtanh, functional.hardtanh_, _hardtanh_derivative),
        "relu6": (functional.relu6, _relu6_in_place, _relu6_derivative),
        "hardsigmoid": (functional.hardsigmoid, _hardsigmoid_in_place, _hardsigmoid_derivative),
        "logsigmoid": (functional.logsigmoid, functional.logsigmoid, _logsigmoid_derivative),
        "softshrink": (functional.softshrink, functional.softshrink, _softshrink_derivative),
        "arctan": (torch.arctan, Tensor.arctan_, _arctan_derivative),
        "sin": (torch.sin, Tensor.sin_, torch.cos),
        "abs": (torch.abs, Tensor.abs_, _abs_derivative),
        "gelu": (functional.gelu, functional.gelu, _gelu_derivative),
        "silu": (functional.silu, _silu_in_place, _silu_derivative),
        "mish": (functional.mish, _mish_in_place, _mish_derivative),
        "selu": (functional.selu, torch.selu_, _selu_derivative),
        "hardswish": (functional.hardswish, _hardswish_in_place, _hardswish_derivative),
    }
)
