"""One pass over a teacher's states: batches in, statistics out."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.errors import DataError, IgnoredOptionWarning, ShapeError
from idl_cli.sim.states.layout import (
    StateBatch,
    StateLayout,
    StateRecorder,
    batches_of_inputs,
)
from idl_cli.sim.states.origin import Origin, SampleOrigin
from idl_cli.sim.states.state_scale import state_scale
from idl_cli.sim.statistics.column_blocks import ColumnBlockStatistics
from idl_cli.sim.statistics.dense import SufficientStatistics
from idl_cli.sim.statistics.reduction import share_of

Loader = Iterable[Tensor | Sequence[Tensor]]
"""Batches of inputs, or of (inputs, targets, …)."""

Statistics = SufficientStatistics | ColumnBlockStatistics
"""Whole, or split by columns over a group."""

PRE_ACTIVATIONS = "Z"
OUTPUTS = "Y"


@dataclass(frozen=True, eq=False)
class Recording:
    """What one pass over a teacher leaves: nothing that grows with the number of samples.

    Attributes:
        recorder: of the teacher, for a second pass.
        raw: statistics of the states as they are, with the targets "Z" and "Y".
        scale: t (n,) float64 to divide the states by; ones where they are left as they are.
        seconds: wall-clock time of the pass, finding the scale included.
    """

    recorder: StateRecorder
    raw: Statistics
    scale: Tensor
    seconds: float

    @cached_property
    def statistics(self) -> Statistics:
        """The statistics of the states divided by ``scale``."""
        if not self.is_rescaled:
            return self.raw
        return self.raw.rescaled(self.scale)

    @property
    def count(self) -> int:
        """Number of samples m."""
        return self.raw.count

    @property
    def is_rescaled(self) -> bool:
        """Whether the states were divided by a scale."""
        return bool((self.scale != 1).any())

    @property
    def row_layout(self) -> StateLayout:
        """What the rows of [A B] make: a state each."""
        return self.recorder.layout


@dataclass(frozen=True, eq=False)
class DataPass:
    """A pass over a loader's inputs, shared by processes.

    Args:
        loader: gives batches of inputs, the same in every process.
        samples: how many to take, None for all.
        on_samples: told the number of samples seen so far, after each batch.
        group: of processes that share the samples.
    """

    loader: Loader
    samples: int | None
    on_samples: Callable[[int], None]
    group: Group

    def shared(self) -> Iterator[Tensor]:
        """Inputs of this process's share of each batch that it has one of."""
        seen = 0
        for inputs in batches_of_inputs(self.loader, self.samples):
            seen += len(inputs)
            mine = share_of(inputs, self.group)
            if len(mine):
                yield mine
            self.on_samples(seen)

    def recorded(
        self, recorder: StateRecorder, *, in_step: bool
    ) -> Iterator[tuple[Tensor, StateBatch]]:
        """Inputs of this process's share of each batch, and their states.

        Args:
            recorder: of the teacher, which is left as it is found.
            in_step: give shares without a sample too, for work that all processes do together.
        """
        seen = 0
        for inputs in batches_of_inputs(self.loader, self.samples):
            seen += len(inputs)
            mine = share_of(inputs, self.group)
            if len(mine) or in_step:
                batch = recorder.record(mine if len(mine) else inputs[:1])
                yield mine, batch.first(len(mine))
            self.on_samples(seen)


def record_states(
    recorder: StateRecorder,
    data: DataPass,
    *,
    kappa: float | None,
    device: torch.device,
    split: bool = False,
    origin: SampleOrigin | None = None,
) -> Recording:
    """Record the statistics of a teacher's states in one pass.

    Args:
        recorder: of the teacher, which is left as it is found.
        data: its inputs; all processes that share them get the statistics of all samples.
        kappa: rescale the states so that an exact solution with ‖A‖∞ ≤ κ exists; None leaves them.
        device: where the statistics live.
        split: split the statistics by columns over the group, so that no process holds G whole.
        origin: which samples the loader gives; kept with the statistics.

    Raises:
        UnsupportedModelError, ShapeError, NonFiniteError: see ``states``; and, with ``kappa``, a
            teacher that no scaling makes contractive.
    """
    started = time.perf_counter()
    layout = recorder.layout
    # The scale comes before the pass: a teacher that has none is refused before the work.
    scale = _scale(recorder, kappa)
    dimensions = (layout.state_dim, layout.feature_dim - layout.state_dim)
    targets = {PRE_ACTIVATIONS: layout.state_dim, OUTPUTS: layout.output_dim}
    statistics: Statistics
    if split:
        statistics = ColumnBlockStatistics(*dimensions, targets, group=data.group, device=device)
    else:
        statistics = SufficientStatistics(*dimensions, targets, device=device)
    for _, batch in data.recorded(recorder, in_step=split):
        of_targets = {PRE_ACTIVATIONS: batch.pre_activations, OUTPUTS: batch.outputs}
        statistics.update(
            batch.states.to(device),
            batch.inputs.to(device),
            {name: values.to(device) for name, values in of_targets.items()},
        )
    statistics.sum_over(data.group)
    if statistics.whole is not None:
        statistics.whole.origin = Origin.of(recorder, origin)
    return Recording(recorder, statistics, scale, time.perf_counter() - started)


def load_recording(
    statistics: SufficientStatistics,
    recorder: StateRecorder,
    *,
    kappa: float | None,
    origin: SampleOrigin | None = None,
) -> Recording:
    """A recording from statistics of raw states that were saved before.

    Args:
        statistics: with the targets "Z" and "Y".
        recorder: of the teacher they are of.
        kappa: as for ``record_states``.
        origin: which samples the loader gives; None where that is unknown.

    Raises:
        ShapeError: the statistics have other shapes than the teacher's.
        DataError: they are of another teacher or of other samples.
    """
    started = time.perf_counter()
    layout = recorder.layout
    expected = (layout.state_dim, layout.feature_dim - layout.state_dim, layout.output_dim)
    outputs = statistics.cross.get(OUTPUTS, torch.empty(0))
    found = (statistics.state_dim, statistics.input_dim, len(outputs))
    if found != expected or PRE_ACTIVATIONS not in statistics.cross:
        raise ShapeError(
            f"the statistics are of {found[0]} states, {found[1]} inputs and {found[2]} outputs, "
            f"the teacher has {expected[0]}, {expected[1]} and {expected[2]}: they are of another "
            "teacher; record its states again"
        )
    _check_origin(statistics.origin, Origin.of(recorder, origin))
    scale = _scale(recorder, kappa)
    return Recording(recorder, statistics, scale, time.perf_counter() - started)


def _check_origin(found: Origin | None, expected: Origin) -> None:
    if found is None:
        warnings.warn(
            "the statistics do not say which teacher and samples they are of: that they are of "
            "these is taken on trust",
            IgnoredOptionWarning,
            stacklevel=4,
        )
        return
    differences = found.differences(expected)
    if differences:
        raise DataError(
            "the statistics to be loaded are of another training; what differs: "
            f"{'; '.join(differences)}. Name statistics of this teacher and these samples, or "
            "leave load_statistics out to record the states again"
        )


def _scale(recorder: StateRecorder, kappa: float | None) -> Tensor:
    if kappa is None:
        return torch.ones(recorder.layout.state_dim, dtype=torch.float64)
    return state_scale(recorder, kappa)
