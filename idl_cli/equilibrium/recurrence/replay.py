"""A recurrence as a composition of differentiable steps: for higher derivatives and transforms.

The values are those of ``function``, which is many times faster for a first derivative.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from idl_cli.equilibrium.gradient.implicit_gradient import equilibrium, known_equilibrium

if TYPE_CHECKING:
    from idl_cli.equilibrium.recurrence.layout import Recurrence


def replay(
    recurrence: Recurrence,
    inputs: Tensor,
    initial: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    state_bias: Tensor | None,
    output_bias: Tensor | None,
    *factors: Tensor,
    states: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return h of every step (rows, h) and of every sample's last (samples, h), in the graph.

    Args:
        recurrence: layout and settings.
        inputs: u (rows, p).
        initial: h_0 (samples, h).
        B: as the others, see ``RecurrenceWeights``.
        C: likewise.
        D: likewise.
        state_bias: likewise.
        output_bias: likewise.
        factors: of A.
        states: x of every step (rows, n) where they are known; solved for where it is None.
    """
    problem = recurrence.problem
    operator = problem.form(*factors)
    sizes = recurrence.batch_sizes
    known = [None] * len(sizes) if states is None else states.split_with_sizes(sizes)
    h, outputs = initial, []
    for step, (u, x) in enumerate(zip(inputs.split_with_sizes(sizes), known, strict=True)):
        h = h[: len(u)]
        if not recurrence.passes_gradient(step):
            h = h.detach()
        both = torch.cat((u, h), dim=1)
        offset = functional.linear(both, B, state_bias)
        if x is not None:
            x = known_equilibrium(problem, operator, offset, x)
        else:
            x = equilibrium(
                operator,
                offset,
                problem.activation,
                forward=problem.forward,
                backward=problem.backward,
                statistics=problem.statistics,
            )
        h = functional.linear(x, C, output_bias)
        if D is not None:
            h = h + functional.linear(both, D)
        outputs.append(h)
    every = torch.cat(outputs)
    return every, every.index_select(0, recurrence.final_rows(inputs.device))
