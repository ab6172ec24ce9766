"""The layers of a feed-forward model: which rows, and which features they may use."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from idl_cli.errors import UnsupportedModelError
from idl_cli.models.implicit import ImplicitModel
from idl_cli.sim.states.layout import StateLayout, StateRecorder
from idl_cli.sim.states.recorders import NetworkRecorder


@dataclass(frozen=True, eq=False)
class Layer:
    """Rows that are fitted together.

    Attributes:
        rows: their places in [A B] or, of the outputs, in [C D].
        features: (D_l,) int64, their features' places in [X; U].
        is_output: whether these are rows of [C D].
    """

    rows: slice
    features: Tensor
    is_output: bool

    def spread(self, weights: Tensor, width: int) -> Tensor:
        """Weights (rows, D_l) of the layer's features in their places among all (rows, width)."""
        whole = weights.new_zeros(len(weights), width)
        whole[:, self.features.to(weights.device)] = weights
        return whole


def feedforward_layers(
    recorder: StateRecorder, teacher: ImplicitModel, *, skip_connections: bool
) -> list[Layer]:
    """The layers in the order of computation, the outputs last.

    Args:
        recorder: of the teacher.
        teacher: in its implicit form.
        skip_connections: offer every earlier state and the inputs to each layer; False: those
            blocks alone that the teacher's own layer uses.

    Raises:
        UnsupportedModelError: the teacher is an implicit model, which has no layers.
    """
    if not isinstance(recorder, NetworkRecorder):
        raise UnsupportedModelError(
            "trainer.structure=feedforward: the teacher is an implicit model, whose states feed "
            "each other; use trainer.structure=full"
        )
    layout = recorder.layout
    n, width = layout.state_dim, layout.feature_dim
    weights = teacher.effective_weights()
    into_states = torch.cat([weights.A, weights.B], dim=1) != 0
    into_outputs = torch.cat([weights.C, weights.D], dim=1) != 0
    blocks = _blocks(layout)
    constant = torch.arange(n + layout.input_dim, width)
    layers = []
    for block in blocks[-2::-1]:  # the first layer stands last, before the inputs
        earlier = [other for other in blocks if other.start >= block.stop]
        used = into_states[block]
        chosen = [o for o in earlier if skip_connections or bool(used[:, o].any())]
        layers.append(Layer(block, _indices(chosen, constant), is_output=False))
    chosen = [o for o in blocks if skip_connections or bool(into_outputs[:, o].any())]
    rows = slice(0, layout.output_dim)
    return [*layers, Layer(rows, _indices(chosen, constant), is_output=True)]


def _blocks(layout: StateLayout) -> list[slice]:
    """Places of each activation's states, and of the inputs, in [X; U]."""
    blocks, start = [], 0
    for size in (*layout.sizes, layout.input_dim):
        blocks.append(slice(start, start + size))
        start += size
    return blocks


def _indices(blocks: list[slice], constant: Tensor) -> Tensor:
    return torch.cat([*(torch.arange(b.start, b.stop) for b in blocks), constant])
