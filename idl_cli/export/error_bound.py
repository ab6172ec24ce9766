"""How far the outputs of finitely many steps can be from those of the equilibrium.

With |φ(s) − φ(t)| ≤ ℓ|s − t| and M = ℓ|A| the iterates x₀ = φ(b), x_{k+1} = φ(Ax_k + b) obey, entry
by entry, |x_K − x*| ≤ (I − M)⁻¹ Mᴷ d for any d ≥ |x₁ − x₀|. With κ = ‖M‖∞ this is at most
κᴷ/(1 − κ)·‖d‖∞, the usual bound of Banach's theorem, and far less where A's rows differ. (I − M)⁻¹
exists and is non-negative where some s > 0 has Ms < s (Collatz and Wielandt), which is checked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from idl_cli.data.files.npy_format import Array
from idl_cli.equilibrium.activations import get_activation
from idl_cli.errors import UnsupportedModelError
from idl_cli.export.equations import Implicit, Recurrent

Floats = npt.NDArray[np.float64]

MOST_STEPS: Final = 5_000
_CURVED: Final = frozenset({"sin", "abs", "gelu", "silu", "mish", "hardswish", "softshrink"})
"""Activations that do not grow, or whose largest value on an interval is not at its ends."""
_SAFE: Final = 1 + 1e-6  # what float64's own rounding adds to the bounds


@dataclass(frozen=True)
class InputRange:
    """An interval for every entry of a model's input, after the preprocessing.

    Args:
        low: (p,).
        high: (p,).
        described: what it is, for a reader.
    """

    low: Floats
    high: Floats
    described: str

    @property
    def magnitude(self) -> Floats:
        """Largest absolute value of every entry (p,)."""
        return np.maximum(np.abs(self.low), np.abs(self.high))


@dataclass(frozen=True)
class ErrorBound:
    """A proven bound on the outputs' error.

    Args:
        steps: K; 0 of a model that is solved in one sweep.
        truncation: largest error of an output from stopping after K steps, in exact arithmetic.
        by_norm: the same by κᴷ/(1 − κ)·‖x₁ − x₀‖∞·‖C‖∞ alone; infinite where κ ≥ 1.
        rounding: largest error of an output from rounding, in the worst case.
        kappa: κ = ℓ‖A‖∞.
        inputs: for which inputs it holds.
    """

    steps: int
    truncation: float
    by_norm: float
    rounding: float
    kappa: float
    inputs: str

    def stopping_by(self, tolerance: float) -> ErrorBound:
        """The same for steps that end as soon as a tolerance is proven to be reached."""
        return replace(self, truncation=max(self.truncation, tolerance))

    @property
    def total(self) -> float:
        """Both errors together."""
        return self.truncation + self.rounding


def bound_of(
    equations: Implicit,
    inputs: InputRange,
    *,
    tolerance: float,
    steps: int | None = None,
    samples: Floats | None = None,
) -> ErrorBound:
    """The fewest steps whose proven error is within a tolerance, or the error of given steps.

    Args:
        equations: the model.
        inputs: the inputs for which it is to hold.
        tolerance: largest error of an output from stopping early.
        steps: K; None for the fewest.
        samples: inputs (m, p): the bound then holds for these alone, and is the tighter for it.

    Raises:
        UnsupportedModelError: no number of steps is known to do, and none is given.
    """
    lipschitz = get_activation(equations.activation).lipschitz
    M = lipschitz * np.abs(equations.matrix())
    kappa = float(M.sum(axis=1).max(initial=0.0))
    start = _start(equations, inputs)
    rows = np.abs(_wide(equations.C))
    inverse = _inverse(M)
    if inverse is None:
        if steps is None:
            raise UnsupportedModelError(
                f"‖A‖∞·ℓ = {kappa:.4g} and ρ(|A|)·ℓ ≥ 1: no number of steps has a proven error;"
                " give format.steps=N, whose error is then measured on the data alone"
            )
        return ErrorBound(steps, np.inf, np.inf, np.inf, kappa, inputs.described)
    change = M @ start * _SAFE
    described = inputs.described
    if samples is not None:
        change = np.minimum(change, _measured_change(equations, samples) * _SAFE)
        described = f"the {len(samples):,} samples of the data"
    weights = rows @ inverse  # (q, n)
    rounding = _rounding(equations, inputs, inverse, start, change)
    if equations.blocks is not None:
        return ErrorBound(0, 0.0, 0.0, rounding, kappa, described)
    error, count = change, 0
    while float((weights @ error).max()) * _SAFE > tolerance if steps is None else count < steps:
        error, count = M @ error, count + 1
        if count > MOST_STEPS:
            raise UnsupportedModelError(
                f"more than {MOST_STEPS:,} steps are needed for format.tolerance={tolerance:g};"
                " give a larger one, or format.steps=N"
            )
    by_norm = np.inf
    if kappa < 1:
        by_norm = kappa**count / (1 - kappa) * float(change.max()) * float(rows.sum(axis=1).max())
    truncation = float((weights @ error).max()) * _SAFE
    return ErrorBound(count, truncation, by_norm, rounding, kappa, described)


def cell_steps(equations: Recurrent, tolerance: float, steps: int | None) -> tuple[ErrorBound, ...]:
    """Steps of each cell of a recurrent network, relative to the size of its states.

    What a recurrence makes of the errors of its steps is not bounded here: it is measured.

    Args:
        equations: the network.
        tolerance: largest error of a state in units of its first change.
        steps: of every cell; None for the fewest.

    Raises:
        UnsupportedModelError: a cell has no contraction, and no number of steps is given.
    """
    found = []
    for cell in equations.cells:
        lipschitz = get_activation(cell.activation).lipschitz
        kappa = lipschitz * float(np.abs(cell.matrix()).sum(axis=1).max(initial=0.0))
        count = 0 if cell.blocks is not None else steps
        if count is None:
            if not kappa < 1:
                raise UnsupportedModelError(
                    f"‖A‖∞·ℓ = {kappa:.4g} ≥ 1: no number of steps has a proven error; give"
                    " format.steps=N"
                )
            wanted = math.log(tolerance * (1 - kappa)) / math.log(max(kappa, 1e-300))
            count = max(1, math.ceil(wanted))
        found.append(ErrorBound(count, math.inf, math.inf, math.inf, kappa, "a step"))
    return tuple(found)


def least_change(equations: Implicit, bound: ErrorBound, tolerance: float) -> float:
    """How little the last step must have changed any state for the outputs to be close enough.

    ‖x_k − x*‖∞ ≤ κ/(1 − κ)·‖x_k − x_{k−1}‖∞; 0 where κ ≥ 1, which says nothing.

    Args:
        equations: the model.
        bound: knows κ.
        tolerance: largest error of an output.
    """
    if not bound.kappa < 1:
        return 0.0
    gain = float(np.abs(_wide(equations.C)).sum(axis=1).max(initial=0.0)) * bound.kappa
    return tolerance * (1 - bound.kappa) / max(gain, 1e-30)


def _inverse(M: Floats) -> Floats | None:
    """(I − M)⁻¹, where it is proven to be what the series Σ Mᵏ sums to."""
    identity = np.eye(len(M))
    try:
        inverse = np.linalg.inv(identity - M)
    except np.linalg.LinAlgError:
        return None
    sums = inverse.sum(axis=1)
    proven = bool((sums > 0).all()) and bool((M @ sums < sums * (1 - 1e-12)).all())
    return np.maximum(inverse, 0.0) if proven else None


def _start(equations: Implicit, inputs: InputRange) -> Floats:
    """A bound on |φ(b)| of every state (n,)."""
    B, b = _wide(equations.B), _wide(equations.b)
    centre, radius = (inputs.high + inputs.low) / 2, (inputs.high - inputs.low) / 2
    middle, spread = B @ centre + b, np.abs(B) @ radius
    activation = get_activation(equations.activation)
    if equations.activation in _CURVED:
        size = np.abs(middle) + spread
        at_zero = abs(float(activation.function(torch.zeros(1, dtype=torch.float64))))
        return at_zero + activation.lipschitz * size
    ends = (torch.from_numpy(end) for end in (middle - spread, middle + spread))
    low, high = (activation.function(end).abs().numpy() for end in ends)
    largest: Floats = np.maximum(low, high)
    return largest


def _measured_change(equations: Implicit, samples: Floats) -> Floats:
    """Largest |x₁ − x₀| of every state over the samples."""
    function = get_activation(equations.activation).function
    A, B = torch.from_numpy(equations.matrix()), torch.from_numpy(_wide(equations.B))
    bias = torch.from_numpy(_wide(equations.b))
    largest = torch.zeros(equations.states, dtype=torch.float64)
    for batch in torch.split(torch.from_numpy(samples), 1024):
        offset = batch @ B.t() + bias
        start = function(offset)
        change = (function(start @ A.t() + offset) - start).abs().amax(dim=0)
        largest = torch.maximum(largest, change)
    return largest.numpy()


def _rounding(
    equations: Implicit,
    inputs: InputRange,
    inverse: Floats,
    start: Floats,
    change: Floats,
) -> float:
    """Rounding of the outputs in the worst case: every sum off by its own γ, carried along.

    A sum of k products is off by γ_k = kε/(1 − kε) of the sum of their magnitudes, in whatever
    order (Higham, Accuracy and Stability of Numerical Algorithms, 2002, lemma 3.1).
    """
    epsilon = float(np.finfo(str(equations.B.dtype)).eps) / 2
    B, C, D = (np.abs(_wide(each)) for each in (equations.B, equations.C, equations.D))
    states = start + inverse @ change  # |x| ≤ |x₀| + |x* − x₀|
    of_input = 4 * epsilon * inputs.magnitude  # the preprocessing: a quotient and a difference
    n, p = B.shape
    terms = n + (equations.factors[0].shape[1] if len(equations.factors) == 2 else 0)
    sums = _gamma(terms + 2, epsilon) * _products(equations, states)
    sums += _gamma(p + 2, epsilon) * (B @ inputs.magnitude + np.abs(equations.b)) + B @ of_input
    lipschitz = get_activation(equations.activation).lipschitz
    local = lipschitz * sums + 4 * epsilon * states  # φ itself, to within some units
    carried = inverse @ local
    outputs = C @ carried + _gamma(n + p + 2, epsilon) * (
        C @ states + D @ inputs.magnitude + np.abs(equations.c)
    )
    return float((outputs + D @ of_input).max()) * _SAFE


def _products(equations: Implicit, states: Floats) -> Floats:
    """|A||x|, or |L||Rᵀ||x|: what the products with A sum."""
    sizes = [np.abs(_wide(factor)) for factor in equations.factors]
    return sizes[0] @ states if len(sizes) == 1 else sizes[0] @ (sizes[1].T @ states)


def _gamma(count: int, epsilon: float) -> float:
    return count * epsilon / (1 - count * epsilon)


def _wide(array: Array) -> Floats:
    return array.astype(np.float64)
