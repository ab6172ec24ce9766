"""One pass over a convolutional teacher's states: statistics of each layer's patches."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from idl_cli.models.convolutional.feedforward_conv import FeedforwardConv
from idl_cli.sim.states.convolutional_form import convolutional_form
from idl_cli.sim.states.layout import StateBatch, StateLayout, StateRecorder
from idl_cli.sim.states.recording import DataPass, Recording
from idl_cli.sim.statistics.dense import SufficientStatistics
from idl_cli.sim.statistics.patches import add_maps, patch_statistics


@dataclass(frozen=True, eq=False)
class ConvolutionRecording:
    """What one pass leaves: a small problem for each layer, whatever the number of samples.

    Attributes:
        recorder: of the teacher, for further passes.
        teacher: with its own kernels, on the device of the statistics.
        statistics: of each layer in order, the outputs last, on the teacher's own states.
        count: samples m; a layer of L places has m·L in its statistics.
        seconds: wall-clock time of the pass.
    """

    recorder: StateRecorder
    teacher: FeedforwardConv
    statistics: tuple[SufficientStatistics, ...]
    count: int
    seconds: float

    @property
    def is_rescaled(self) -> bool:
        """Whether the states were divided by a scale: never, A needs no bound."""
        return False

    @property
    def row_layout(self) -> StateLayout:
        """The layout with a row for each output channel in place of its pixels."""
        channels = [len(layer.weight) for layer in self.teacher.weights[:-1]]
        return replace(self.recorder.layout, sizes=tuple(channels[::-1]))


AnyRecording: TypeAlias = Recording | ConvolutionRecording
"""Of a teacher's states as a whole, or layer by layer."""


def record_convolutions(
    recorder: StateRecorder, data: DataPass, *, device: torch.device
) -> ConvolutionRecording:
    """Record the statistics of every layer of a convolutional teacher in one pass.

    Args:
        recorder: of the teacher, which is left as it is found.
        data: its inputs; all processes that share them get the statistics of all samples.
        device: where the statistics live.

    Raises:
        UnsupportedModelError: the teacher is no chain of convolutions and fully connected layers.
        ShapeError, NonFiniteError: see ``states``.
    """
    started = time.perf_counter()
    teacher = convolutional_form(recorder).to(device)
    layers = range(len(teacher.weights))
    found = tuple(patch_statistics(layer, device) for layer in teacher.weights)
    count = torch.zeros(1, dtype=torch.float64, device=device)
    for inputs, batch in data.recorded(recorder, in_step=False):
        count += len(batch)
        states = teacher.blocks(batch.states.to(device))
        image = teacher.entering(inputs.to(states[0]), 0)
        for number, maps, targets in zip(
            layers, [image, *states], targets_of(teacher, batch, device), strict=True
        ):
            add_maps(found[number], teacher.weights[number], maps, targets)
    for each in found:
        each.sum_over(data.group)
    data.group.all_reduce_sum_([count])
    seconds = time.perf_counter() - started
    return ConvolutionRecording(recorder, teacher, found, int(count), seconds)


def layer_statistics(
    recording: ConvolutionRecording, made: FeedforwardConv, layer: int, data: DataPass
) -> SufficientStatistics:
    """Statistics of one layer on the states that another model has; one pass over the data.

    Args:
        recording: of the teacher, whose pre-activations or outputs are the targets.
        made: whose layers before this one make the states.
        layer: its number, from 0.
        data: the samples.
    """
    device = recording.statistics[layer].gram.device
    weights = recording.teacher.weights[layer]
    found = patch_statistics(weights, device)
    like = made.weights[0].weight
    for inputs, batch in data.recorded(recording.recorder, in_step=False):
        with torch.no_grad():
            maps = made.entering(inputs.to(like), layer).to(device)
        targets = list(targets_of(recording.teacher, batch, device))[layer]
        add_maps(found, weights, maps, targets)
    found.sum_over(data.group)
    return found


def targets_of(
    teacher: FeedforwardConv, batch: StateBatch, device: torch.device
) -> Iterator[Tensor]:
    """What each layer is to give: its pre-activations (m, ...), of the last the outputs (m, q)."""
    blocks: Sequence[Tensor] = teacher.blocks(batch.pre_activations.to(device))
    yield from blocks
    yield batch.outputs.to(device)
