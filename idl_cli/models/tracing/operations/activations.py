"""Activations, by name or by differences of relu."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from torch import Tensor

from idl_cli.equilibrium.activations import LEAKY_RELU_SLOPE, SOFTSHRINK_LAMBDA
from idl_cli.errors import UnsupportedModelError
from idl_cli.models.tracing import maxima
from idl_cli.models.tracing.expressions import Expression, States
from idl_cli.models.tracing.operations.arguments import (
    Operation,
    array,
)


def _activation(name: str, defaults: Mapping[str, float] = MappingProxyType({})) -> Operation:
    """One of ours by name, of which torch's further arguments must have their defaults."""

    def operation(states: States, value: Expression, *given: Any) -> Expression:
        if len(given) > len(defaults):
            raise UnsupportedModelError(f"{name} with {given[len(defaults)]}")
        for key, setting in zip(defaults, given, strict=False):
            if setting != defaults[key]:
                raise UnsupportedModelError(
                    f"{name} with {key}={setting}; known with {key}={defaults[key]} alone"
                )
        return states.activated(value, name)

    return operation


def _leaky_relu(states: States, value: Expression, slope: float = LEAKY_RELU_SLOPE) -> Expression:
    if slope == LEAKY_RELU_SLOPE:
        return states.activated(value, "leaky_relu")
    return maxima.leaky(states, value, np.asarray(float(slope)))


def _prelu(states: States, value: Expression, weight: Any) -> Expression:
    slopes = array(weight)
    if slopes.size > 1:
        slopes = slopes.reshape(-1, *(1,) * (len(value.shape) - 1))
    return maxima.leaky(states, value, slopes.reshape(()) if slopes.size == 1 else slopes)


def _clamp(states: States, value: Expression, min: Any = None, max: Any = None) -> Expression:
    if isinstance(min, Tensor | Expression) or isinstance(max, Tensor | Expression):
        raise UnsupportedModelError("clamp with limits that are no numbers")
    return maxima.clipped(states, value, min, max)


def _hardtanh(states: States, value: Expression, low: float = -1, high: float = 1) -> Expression:
    if (low, high) == (-1, 1):
        return states.activated(value, "hardtanh")
    return maxima.clipped(states, value, low, high)


def _dropout(states: States, value: Expression, p: float, train: bool) -> Expression:
    del states
    if train and p > 0:
        raise UnsupportedModelError("dropout that stays on in evaluation is random")
    return value


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "relu": _activation("relu"),
        "leaky_relu": _leaky_relu,
        "prelu": _prelu,
        "_prelu_kernel": _prelu,
        "clamp": _clamp,
        "clamp_min": _clamp,
        "clamp_max": lambda states, value, high: _clamp(states, value, None, high),
        "clip": _clamp,
        "hardtanh": _hardtanh,
        "relu6": _activation("relu6"),
        "abs": _activation("abs"),
        "tanh": _activation("tanh"),
        "sigmoid": _activation("sigmoid"),
        "elu": _activation("elu", {"alpha": 1, "scale": 1, "input_scale": 1}),
        "celu": _activation("elu", {"alpha": 1}),
        "selu": _activation("selu"),
        "gelu": _activation("gelu"),
        "silu": _activation("silu"),
        "mish": _activation("mish"),
        "hardswish": _activation("hardswish"),
        "softplus": _activation("softplus", {"beta": 1, "threshold": 20}),
        "hardsigmoid": _activation("hardsigmoid"),
        "log_sigmoid": _activation("logsigmoid"),
        "softshrink": _activation("softshrink", {"lambd": SOFTSHRINK_LAMBDA}),
        "atan": _activation("arctan"),
        "arctan": _activation("arctan"),
        "sin": _activation("sin"),
        "softsign": _activation("softsign"),
        "dropout": _dropout,
        "feature_dropout": _dropout,
        "alpha_dropout": _dropout,
        "feature_alpha_dropout": _dropout,
    }
)
