"""How far outputs can move when weights do: proven for every input in a box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from idl_cli.equilibrium.activations import get_activation
from idl_cli.models.compression.boxes import state_box
from idl_cli.models.compression.sweeps import amplified
from idl_cli.models.sparse.weights import SparseWeights


@dataclass(frozen=True, eq=False)
class Sizes:
    """Bounds of what weights multiply.

    Attributes:
        inputs: |u| (p,).
        states: |x| at the equilibria (n,).
    """

    inputs: np.ndarray
    states: np.ndarray


def sizes_of(weights: SparseWeights, low: np.ndarray, high: np.ndarray) -> Sizes:
    """Bounds of |u| and |x| for every input between ``low`` and ``high`` (p,) each.

    The states begin at |x| ≤ (I − L|A|)⁻¹ (L (|B| |u| + |b|) + |φ(0)|), L the Lipschitz constants
    of φ, and interval sweeps make them smaller.
    """
    inputs = np.maximum(np.abs(low), np.abs(high))
    at_zero = np.repeat([_at_zero(name) for name in weights.activations], weights.sizes)
    offset = abs(weights.B) @ inputs + np.abs(weights.state_bias)
    # |x| ≤ |φ(0)| + L(|A||x| + r): φ(0) as a change before a φ of slope L.
    bound = amplified(weights, offset + at_zero / weights.lipschitz)
    lowest, highest = state_box(weights, low, high, bound)
    return Sizes(inputs, np.maximum(np.abs(lowest), np.abs(highest)))


def _at_zero(name: str) -> float:
    return abs(float(get_activation(name).function(torch.zeros(1, dtype=torch.float64))))


def output_bound(weights: SparseWeights, changed: SparseWeights, sizes: Sizes) -> np.ndarray:
    """A bound (q,) of |ŷ − ŷ′| between two models of the same states.

    With E the differences of the weights and L the Lipschitz constants of φ,
    |x − x′| ≤ e = (I − L|A′|)⁻¹ L (|E_A| |x| + |E_B| |u| + |e_b|), and
    |ŷ − ŷ′| ≤ |C′| e + |E_C| |x| + |E_D| |u| + |e_c|.

    Args:
        weights: of the model whose states ``sizes`` bounds.
        changed: of the other.
        sizes: for the inputs in question.
    """
    moved = (
        abs(weights.A - changed.A) @ sizes.states
        + abs(weights.B - changed.B) @ sizes.inputs
        + np.abs(weights.state_bias - changed.state_bias)
    )
    apart = amplified(changed, moved)
    with np.errstate(invalid="ignore"):  # 0 · ∞ where no bound of the states is proven
        bound: np.ndarray = (
            abs(changed.C) @ apart
            + abs(weights.C - changed.C) @ sizes.states
            + abs(weights.D - changed.D) @ sizes.inputs
            + np.abs(weights.output_bias - changed.output_bias)
        )
    proven: np.ndarray = np.nan_to_num(bound, nan=np.inf, posinf=np.inf) * (1 + 1e-9)
    return proven
