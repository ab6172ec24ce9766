"""When is x = φ(Ax + Bu) well-posed? The facts and rules, without torch.

The config checks use these rules before torch is imported, the models use them at construction, so
a request is judged by one set of rules wherever it enters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from idl_cli.config.fields import PROPER_FRACTION

WellPosedness = Literal["linf", "triangular", "none"]
"""How A is kept: ‖A‖∞ ≤ κ, strictly upper triangular, or not at all."""


@dataclass(frozen=True)
class ActivationFacts:
    """What the theory asks of an activation, and where torch finds it.

    Attributes:
        lipschitz: the smallest L with |φ(s) − φ(t)| ≤ L |s − t|.
        module: its class in ``torch.nn``, or ``"module:attribute"`` of one elsewhere; None where
            there is none, so that no explicit network has it.
        positively_homogeneous: whether φ(αz) = αφ(z) for every α ≥ 0.
        maps: ``"module:attribute"`` of its ``ActivationMaps``; None for those in ``activations``.
        monotone: whether φ never falls, so that it maps an interval to that of its ends' images.
    """

    lipschitz: float
    module: str | None = None
    positively_homogeneous: bool = False
    maps: str | None = None
    monotone: bool = False


# The derivative of gelu, Φ(z) + zΦ'(z), peaks at z = √2.
_GELU = 0.5 + 0.5 * math.erf(1) + math.exp(-1) / math.sqrt(math.pi)
# The derivatives of silu and mish peak where a transcendental equation holds (z ≈ 2.3994, 1.4906).
_SILU = 1.0998393201288669
_MISH = 1.0884981612517279
_SELU = 1.0507009873554805 * 1.6732632423543772

ACTIVATION_FACTS: Final = MappingProxyType(
    {
        "relu": ActivationFacts(1.0, "ReLU", positively_homogeneous=True, monotone=True),
        "leaky_relu": ActivationFacts(1.0, "LeakyReLU", positively_homogeneous=True, monotone=True),
        "tanh": ActivationFacts(1.0, "Tanh", monotone=True),
        "sigmoid": ActivationFacts(0.25, "Sigmoid", monotone=True),
        "identity": ActivationFacts(1.0, positively_homogeneous=True, monotone=True),
        "elu": ActivationFacts(1.0, "ELU", monotone=True),
        "softplus": ActivationFacts(1.0, "Softplus", monotone=True),
        "softsign": ActivationFacts(1.0, "Softsign", monotone=True),
        "hardtanh": ActivationFacts(1.0, "Hardtanh", monotone=True),
        "relu6": ActivationFacts(1.0, "ReLU6", monotone=True),
        "hardsigmoid": ActivationFacts(1.0 / 6.0, "Hardsigmoid", monotone=True),
        "logsigmoid": ActivationFacts(1.0, "LogSigmoid", monotone=True),
        "softshrink": ActivationFacts(1.0, "Softshrink", monotone=True),
        "arctan": ActivationFacts(1.0, monotone=True),
        "sin": ActivationFacts(1.0),
        "abs": ActivationFacts(1.0, positively_homogeneous=True),
        "gelu": ActivationFacts(_GELU, "GELU"),
        "silu": ActivationFacts(_SILU, "SiLU"),
        "mish": ActivationFacts(_MISH, "Mish"),
        "selu": ActivationFacts(_SELU, "SELU", monotone=True),
        "hardswish": ActivationFacts(1.5, "Hardswish"),
    }
)

MONOTONE: Final = frozenset(name for name, facts in ACTIVATION_FACTS.items() if facts.monotone)


if TYPE_CHECKING:
    ActivationName: TypeAlias = str
    ModuleActivation: TypeAlias = str
    TeacherActivation: TypeAlias = str
else:
    ActivationName = Literal[tuple(ACTIVATION_FACTS)]
    ModuleActivation = Literal[
        tuple(name for name, facts in ACTIVATION_FACTS.items() if facts.module)
    ]
    # κ < 1 suffices only where φ is non-expansive.
    TeacherActivation = Literal[
        tuple(
            name
            for name, facts in ACTIVATION_FACTS.items()
            if facts.module and facts.lipschitz <= 1
        )
    ]


def well_posedness_problems(
    *, hidden_dim: int, rank: int | None, kappa: float, activation: str, well_posedness: str
) -> list[str]:
    """Return one sentence for each way in which these choices contradict each other or the theory.

    Args:
        hidden_dim: number of states n.
        rank: rank of A = L Rᵀ, None for a full matrix.
        kappa: radius of the ball ‖A‖∞ ≤ κ.
        activation: name of φ.
        well_posedness: ``linf``, ``triangular`` or ``none``.
    """
    problems = []
    allowed = get_args(WellPosedness)
    if well_posedness not in allowed:
        problems.append(
            f"well_posedness={well_posedness!r} is not known: choose one of {', '.join(allowed)}."
        )
    if kappa not in PROPER_FRACTION:
        problems.append(f"kappa={kappa:g} must lie strictly between 0 and 1.")
    if rank is not None and not 1 <= rank <= hidden_dim:
        problems.append(
            f"rank={rank} must lie between 1 and hidden_dim={hidden_dim}; "
            "leave rank at null for a full matrix."
        )
    if rank is not None and well_posedness == "triangular":
        problems.append(
            f"rank={rank} cannot be combined with well_posedness=triangular: a product of thin "
            "factors is not triangular. Use rank=null or well_posedness=linf."
        )
    facts = ACTIVATION_FACTS.get(activation)
    if facts is None:
        problems.append(
            f"activation={activation!r} is not known: choose one of {', '.join(ACTIVATION_FACTS)}."
        )
    elif well_posedness == "linf" and kappa in PROPER_FRACTION and kappa * facts.lipschitz >= 1:
        problems.append(
            f"activation={activation} has the Lipschitz constant {facts.lipschitz:.4g}, so "
            f"kappa={kappa:g} does not make x = φ(Ax + Bu) a contraction: kappa must be below "
            f"{1 / facts.lipschitz:.4g}, or take a non-expansive activation such as relu."
        )
    return problems
