"""One pass over a convolutional teacher's states: statistics of each layer's patches."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from idl_cli.models.convolutional.feedforward_conv import FeedforwardConv
from idl_cli.models.convolutional.layer_shapes import Weights
from idl_cli.models.convolutional.sums import Entering
from idl_cli.sim.states.convolution_recorder import ConvolutionRecorder
from idl_cli.sim.states.layout import StateLayout
from idl_cli.sim.states.recording import DataPass, Recording
from idl_cli.sim.statistics.dense import SufficientStatistics
from idl_cli.sim.statistics.patches import add_maps, patch_statistics

_STATES = 2**24
"""Pixels of maps that are held at once, 64 MB in float32 where all layers are."""


@dataclass(frozen=True, eq=False)
class ConvolutionRecording:
    """What one pass leaves: a small problem for each layer, whatever the number of samples.

    Attributes:
        recorder: of the teacher, for further passes.
        teacher: with its own kernels, on the device of the statistics.
        statistics: of each sum of layers in order, the outputs last, on the teacher's own states.
        count: samples m; a layer of L places has m·L in its statistics.
        seconds: wall-clock time of the pass.
    """

    recorder: ConvolutionRecorder
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
        channels = [len(layers[-1].weight) for layers in self.teacher.sums[:-1]]
        return replace(self.recorder.layout, sizes=tuple(channels[::-1]))


AnyRecording: TypeAlias = Recording | ConvolutionRecording
"""Of a teacher's states as a whole, or layer by layer."""


def record_convolutions(
    recorder: ConvolutionRecorder, data: DataPass, *, device: torch.device
) -> ConvolutionRecording:
    """Record the statistics of every layer of a convolutional teacher in one pass.

    Args:
        recorder: of the teacher, which is left as it is found.
        data: its inputs; all processes that share them get the statistics of all samples.
        device: where the statistics live.

    Raises:
        ShapeError, NonFiniteError: see ``states``.
    """
    started = time.perf_counter()
    teacher = copy.deepcopy(recorder.form).to(device)
    found = tuple(patch_statistics(layers, device) for layers in teacher.sums)
    count = torch.zeros(1, dtype=torch.float64, device=device)
    for inputs in parts_of(recorder, data, device):
        count += len(inputs)
        with torch.no_grad():
            for number, (entering, total) in enumerate(teacher.evaluated(inputs)):
                add_sum(found[number], teacher.sums[number], entering, total)
    for each in found:
        each.sum_over(data.group)
    data.group.all_reduce_sum_([count])
    seconds = time.perf_counter() - started
    return ConvolutionRecording(recorder, teacher, found, int(count), seconds)


def add_sum(
    statistics: SufficientStatistics, layers: Sequence[Weights], entering: Entering, total: Tensor
) -> None:
    """Add a batch of a sum: what its layers' products shall come to, beside what is added as it is.

    Args:
        statistics: of the layers.
        layers: whose weights do not matter.
        entering: what the sum is made of.
        total: what it shall come to.
    """
    device, added = statistics.gram.device, entering.added
    targets = total if added is None else total - added.to(total)
    add_maps(statistics, layers, [each.to(device) for each in entering.reads], targets)


def parts_of(
    recorder: ConvolutionRecorder, data: DataPass, device: torch.device
) -> Iterator[Tensor]:
    """This process's inputs, as many at a time as there is room for the maps of."""
    size = max(1, _STATES // recorder.layout.state_dim)
    for mine in data.shared():
        for inputs in torch.split(mine, size):
            recorder.check_inputs(inputs)
            yield inputs.to(device, next(recorder.form.parameters()).dtype)
