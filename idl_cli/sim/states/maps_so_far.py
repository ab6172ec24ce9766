"""Statistics of one layer after another, on the maps that the fitted layers before it give."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from idl_cli.models.convolutional.feedforward_conv import FeedforwardConv
from idl_cli.sim.states.convolution_recording import ConvolutionRecording, add_sum, parts_of
from idl_cli.sim.states.recording import DataPass
from idl_cli.sim.statistics.dense import SufficientStatistics
from idl_cli.sim.statistics.patches import patch_statistics

ROOM = 2**30
"""Bytes of maps that are kept from one layer to the next; more samples are gone through again."""

_Known: TypeAlias = dict[int, Tensor]


@dataclass(eq=False)
class _Part:
    """Some samples: the maps that later sums read.

    Attributes:
        of_teacher: the teacher's.
        of_made: the fitted model's.
        teacher_at: the first sum of the teacher that is not known.
        made_at: the same of the fitted model.
    """

    of_teacher: _Known
    of_made: _Known
    teacher_at: int = 0
    made_at: int = 0


class MapsSoFar:
    """The maps of a teacher, and of a model of which more and more layers are fitted.

    Where there is room they are kept, so that a layer costs a step; elsewhere each layer costs a
    pass over the data, through all layers before it.

    Args:
        recording: of the teacher, whose pre-activations and outputs are the targets.
        made: the model; a layer's weights no longer change once a later one is asked for.
        data: the samples.
        room: bytes that may be kept.
    """

    def __init__(
        self,
        recording: ConvolutionRecording,
        made: FeedforwardConv,
        data: DataPass,
        *,
        room: int = ROOM,
    ) -> None:
        self._recording, self._made, self._data = recording, made, data
        sizes = [next(m.parameters()).element_size() for m in (recording.teacher, made)]
        mine = -(-recording.count // data.group.size)
        self._keeps = mine * made.graph.most_known * sum(sizes) <= room
        self._kept: list[_Part] | None = None

    @torch.no_grad()
    def statistics(self, number: int) -> SufficientStatistics:
        """Those of one sum; what the model adds as it is, a shortcut, is taken from the target.

        The errors of a shortcut are then made up for by the layers of the sum.

        Args:
            number: of the sum, from 0; more than at the call before.
        """
        teacher, made = self._recording.teacher, self._made
        whole = self._recording.statistics[number]
        found = patch_statistics(teacher.sums[number], whole.gram.device)
        for part in self._parts():
            for step in range(part.teacher_at, number):
                teacher.advance(step, part.of_teacher)
            for step in range(part.made_at, number):
                made.advance(step, part.of_made)
            total = teacher.advance(number, part.of_teacher)
            entering = made.entering_from(number, part.of_made)
            part.teacher_at, part.made_at = number + 1, number
            add_sum(found, teacher.sums[number], entering, total)
        found.sum_over(self._data.group)
        return found

    def _parts(self) -> Iterator[_Part]:
        if self._kept is not None:
            yield from self._kept
            return
        kept = []
        teacher, made = self._recording.teacher, self._made
        like = next(made.parameters())
        device = self._recording.statistics[0].gram.device
        for inputs in parts_of(self._recording.recorder, self._data, device):
            part = _Part(teacher.begun(inputs), made.begun(inputs.to(like)))
            yield part
            if self._keeps:
                kept.append(part)
        if self._keeps:
            self._kept = kept
