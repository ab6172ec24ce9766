"""A box on which φ is affine: the least of a linear form there is a linear program.

The solver only suggests: its dual values are multipliers, which ``Relaxation.value`` bounds rounded
down whatever they are, and its inputs are a point at which the model itself is asked.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from idl_cli.certificates.duality import Form, Relaxation

_RAYS: Final = (1e3, 1e6, 1e9)  # of the proof that a box is empty, in largest multipliers


def solved(relaxed: Relaxation, form: Form, multipliers: Tensor) -> tuple[Tensor, Tensor | None]:
    """The dual bound of one form on one box, and where the least is.

    Args:
        relaxed: φ on one box (1, n), affine there, of a region that is a box.
        form: one form (1, 1, n).
        multipliers: that are known (n,).

    Returns:
        The bound (), as large as it takes to exclude a box that no equilibrium is in, and the
        inputs (p,) of the least; None where the solver found the box empty, or nothing.
    """
    equation, region = relaxed.equation, relaxed.region
    n = equation.states
    low, high = relaxed.nodes[0, 0], relaxed.nodes.amax(0)[0]
    slope = equation.graph.activation.derivative((low + high) / 2)
    constant = relaxed.values[0, 0] - slope * low
    identity = torch.eye(n, dtype=torch.float64)
    cost = torch.cat([form.state[0, 0] * slope, form.inputs[0, 0]])
    left = torch.cat([identity - equation.A * slope, -equation.B], 1)
    right = equation.A @ constant + equation.state_bias
    centre, radius = region.centre[0], region.radius[0]
    ends = torch.stack([torch.cat([low, centre - radius]), torch.cat([high, centre + radius])], 1)
    found = _program(cost, left, right, ends)
    if found is not None:
        optimal, at = found
        return _value(relaxed, form, optimal), at[n:]
    # the least violation of the equation, and the multipliers that prove it positive
    violation = torch.cat([0 * cost, torch.ones(2 * n, dtype=torch.float64)])
    elastic = torch.cat([left, identity, -identity], 1)
    room = torch.tensor([0.0, torch.inf], dtype=torch.float64).expand(2 * n, 2)
    found = _program(violation, elastic, right, torch.cat([ends, room]))
    candidates = [multipliers]
    if found is not None:
        size = multipliers.abs().max().clamp(min=1.0)
        candidates += [multipliers + found[0] * (size * length) for length in _RAYS]
    values = torch.stack([_value(relaxed, form, each) for each in candidates])
    return values.nan_to_num(-torch.inf).max(), None


def _value(relaxed: Relaxation, form: Form, multipliers: Tensor) -> Tensor:
    return relaxed.value(form, multipliers[None, None])[0, 0]


def _program(
    cost: Tensor, left: Tensor, right: Tensor, ends: Tensor
) -> tuple[Tensor, Tensor] | None:
    """Dual values of left·v = right, and v, where cost·v is least within the ends (…, 2)."""
    from scipy.optimize import linprog  # slow to import, and few samples come to this

    found = linprog(
        cost.numpy(),
        A_eq=left.numpy(),
        b_eq=right.numpy(),
        bounds=ends.numpy(),
        method="highs",
    )
    if found.status != 0:
        return None
    return torch.from_numpy(np.array(found.eqlin.marginals)), torch.from_numpy(np.array(found.x))
