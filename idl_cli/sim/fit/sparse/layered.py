"""A feed-forward model computed layer by layer, for the sake of speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from idl_cli.models.implicit import ImplicitModel
from idl_cli.sim.fit.sparse.layers import Layer

_INPUTS = -1


@dataclass(frozen=True, eq=False)
class _Step:
    """A layer: its place among the states, its bias, and its weights by the place they read."""

    place: int
    bias: Tensor | None
    weights: dict[int, Tensor]

    def values(self, known: dict[int, Tensor]) -> Tensor:
        total = self.bias
        for place, weights in self.weights.items():
            if place == _INPUTS:
                total = functional.linear(known[place], weights, self.bias)
            else:
                term = functional.linear(known[place], weights)
                total = term if total is None else total + term
        assert total is not None
        return total


class LayeredModel:
    """The outputs of a feed-forward model, from the blocks of its weights that are not all zero.

    Args:
        model: strictly block triangular.
        layers: its layers in order.

    Attributes:
        parameters: the blocks and biases, contiguous leaves of autograd's graph: their gradients
            are of their own size, not of the whole parameter's. ``write_back`` brings what became
            of them to the model.
    """

    def __init__(self, model: ImplicitModel, layers: Sequence[Layer]) -> None:
        assert model.D is not None
        self.parameters: list[Tensor] = []
        self._origins: list[Tensor] = []
        self._activation = model.activation.function
        hidden = [layer.rows for layer in layers if not layer.is_output]
        self._hidden = [
            self._step(row, model.B, model.A, hidden, model.state_bias) for row in hidden
        ]
        rows = slice(0, model.output_dim)
        self._outputs = self._step(rows, model.D, model.C, hidden, model.output_bias)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Outputs (m, q) of inputs (m, p)."""
        known = {_INPUTS: inputs}
        for step in self._hidden:
            known[step.place] = self._activation(step.values(known))
        return self._outputs.values(known)

    def write_back(self) -> None:
        """Set the model's parameters to these."""
        for origin, leaf in zip(self._origins, self.parameters, strict=True):
            origin.copy_(leaf.detach())

    def _step(
        self,
        rows: slice,
        direct: Tensor,
        of_states: Tensor,
        hidden: list[slice],
        bias: Tensor | None,
    ) -> _Step:
        blocks = {_INPUTS: direct[rows]} | {b.start: of_states[rows, b] for b in hidden}
        used = {place: block for place, block in blocks.items() if bool(block.any())}
        # One block at least, so that rows without any weight have values and a gradient too.
        used = used or {_INPUTS: direct[rows]}
        return _Step(
            rows.start,
            None if bias is None else self._leaf(bias[rows]),
            {place: self._leaf(block) for place, block in used.items()},
        )

    def _leaf(self, part: Tensor) -> Tensor:
        origin = part.detach()
        leaf = origin.clone(memory_format=torch.contiguous_format).requires_grad_()
        self._origins.append(origin)
        self.parameters.append(leaf)
        return leaf
