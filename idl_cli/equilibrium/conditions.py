"""When is x = φ(Ax + Bu) well-posed? The facts and rules, without torch.

The config checks use these rules before torch is imported, the models use them at construction, so
a request is judged by one set of rules wherever it enters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, get_args

WellPosedness = Literal["linf", "triangular", "none"]
"""How A is kept: ‖A‖∞ ≤ κ, strictly upper triangular, or not at all."""

ActivationName = Literal[
    "relu",
    "leaky_relu",
    "tanh",
    "sigmoid",
    "identity",
    "elu",
    "softplus",
    "softsign",
    "hardtanh",
    "relu6",
    "hardsigmoid",
    "logsigmoid",
    "softshrink",
    "arctan",
    "sin",
    "abs",
    "gelu",
    "silu",
    "mish",
    "selu",
    "hardswish",
]


@dataclass(frozen=True)
class ActivationFacts:
    """What the theory asks of an activation.

    Attributes:
        lipschitz: the smallest L with |φ(s) − φ(t)| ≤ L |s − t|.
        positively_homogeneous: whether φ(αz) = αφ(z) for every α ≥ 0.
    """

    lipschitz: float
    positively_homogeneous: bool = False


# The derivative of gelu, Φ(z) + zΦ'(z), peaks at z = √2.
_GELU = 0.5 + 0.5 * math.erf(1) + math.exp(-1) / math.sqrt(math.pi)
# The derivatives of silu and mish peak where a transcendental equation holds (z ≈ 2.3994, 1.4906).
_SILU = 1.0998393201288669
_MISH = 1.0884981612517279
_SELU = 1.0507009873554805 * 1.6732632423543772

ACTIVATION_FACTS: Final = MappingProxyType(
    {
        "relu": ActivationFacts(1.0, positively_homogeneous=True),
        "leaky_relu": ActivationFacts(1.0, positively_homogeneous=True),
        "tanh": ActivationFacts(1.0),
        "sigmoid": ActivationFacts(0.25),
        "identity": ActivationFacts(1.0, positively_homogeneous=True),
        "elu": ActivationFacts(1.0),
        "softplus": ActivationFacts(1.0),
        "softsign": ActivationFacts(1.0),
        "hardtanh": ActivationFacts(1.0),
        "relu6": ActivationFacts(1.0),
        "hardsigmoid": ActivationFacts(1.0 / 6.0),
        "logsigmoid": ActivationFacts(1.0),
        "softshrink": ActivationFacts(1.0),
        "arctan": ActivationFacts(1.0),
        "sin": ActivationFacts(1.0),
        "abs": ActivationFacts(1.0, positively_homogeneous=True),
        "gelu": ActivationFacts(_GELU),
        "silu": ActivationFacts(_SILU),
        "mish": ActivationFacts(_MISH),
        "selu": ActivationFacts(_SELU),
        "hardswish": ActivationFacts(1.5),
    }
)


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
    if not 0 < kappa < 1:
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
    elif well_posedness == "linf" and 0 < kappa < 1 <= kappa * facts.lipschitz:
        problems.append(
            f"activation={activation} has the Lipschitz constant {facts.lipschitz:.4g}, so "
            f"kappa={kappa:g} does not make x = φ(Ax + Bu) a contraction: kappa must be below "
            f"{1 / facts.lipschitz:.4g}, or take a non-expansive activation such as relu."
        )
    return problems
