"""A feed-forward model layer by layer, each on the states that the layers before it produce.

The rows of a layer are fitted to the teacher's pre-activations, but on the states of the sparse
layers made so far, so that errors do not pile up; the outputs come last.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from idl_cli.sim.fit.sparse.layers import Layer
from idl_cli.sim.states.layout import StateLayout, StateRecorder
from idl_cli.sim.states.recording import OUTPUTS, PRE_ACTIVATIONS, DataPass, Recording
from idl_cli.sim.statistics.dense import SufficientStatistics
from idl_cli.sim.statistics.offsets import Offsets

TARGET = "T"


def dense_statistics(recording: Recording, layer: Layer) -> SufficientStatistics:
    """Statistics of a layer's features and targets, the teacher's own states as features."""
    whole = recording.raw.whole
    assert whole is not None
    name = OUTPUTS if layer.is_output else PRE_ACTIVATIONS
    features = layer.features.to(whole.gram.device)
    gram, cross, square = whole.gram, whole.cross[name], whole.square[name]
    found = _empty(layer, whole.gram.device)
    if whole.offsets is not None:
        place = (features == whole.offsets.constant).nonzero()[:, 0].tolist()
        if place:
            targets = {TARGET: whole.target_offsets(name)[layer.rows]}
            found.offsets = Offsets(place[0], whole.offsets.features[features], targets)
        else:  # the constant that they are multiples of is no feature of this layer
            gram, cross, square = whole.raw(name)
    found.gram.copy_(gram[features][:, features])
    found.cross[TARGET].copy_(cross[layer.rows][:, features])
    found.square[TARGET].copy_(square[layer.rows])
    found.count = whole.count
    return found


def sparse_statistics(
    recorder: StateRecorder,
    data: DataPass,
    layer: Layer,
    earlier: Sequence[Layer],
    ab: Tensor,
    *,
    device: torch.device,
) -> SufficientStatistics:
    """Statistics of a layer on the states of the sparse layers before it; one pass over the data.

    Args:
        recorder: of the teacher, whose pre-activations or outputs are the targets.
        data: the samples.
        layer: whose statistics.
        earlier: the layers that are made, in order.
        ab: [A B b] (n, D) of those, in the model's dtype.
        device: of the statistics.
    """
    found = _empty(layer, device)
    for _, batch in data.recorded(recorder, in_step=False):
        features = sweep(ab, batch.inputs.to(ab), recorder.layout, earlier)
        targets = batch.outputs if layer.is_output else batch.pre_activations[:, layer.rows]
        chosen = features[:, layer.features.to(device)]
        found.update(chosen[:, :0], chosen, {TARGET: targets.to(device)})
    found.sum_over(data.group)
    return found


def sweep(ab: Tensor, inputs: Tensor, layout: StateLayout, layers: Sequence[Layer]) -> Tensor:
    """Features [X U] (m, D) with the states that ``layers`` produce, and zeros for the others.

    Args:
        ab: [A B b] (n, D).
        inputs: U (m, p), the constant included.
        layout: of the states.
        layers: in order.
    """
    features = torch.cat([inputs.new_zeros(len(inputs), layout.state_dim), inputs], dim=1)
    for layer in layers:
        weights = ab[layer.rows]
        used = (weights != 0).any(dim=0).nonzero()[:, 0]
        # From the first to the last: choosing columns takes longer than multiplying by zeros.
        span = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0)
        values = features[:, span] @ weights[:, span].T
        features[:, layer.rows] = layout.activation.function(values)
    return features


def _empty(layer: Layer, device: torch.device) -> SufficientStatistics:
    rows = layer.rows.stop - layer.rows.start
    return SufficientStatistics(0, len(layer.features), {TARGET: rows}, device=device)
