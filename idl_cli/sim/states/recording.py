"""One pass over a teacher's states, or over a model's equilibria: batches in, statistics out."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.errors import DataError, IgnoredOptionWarning, NonFiniteError, ShapeError
from idl_cli.models.implicit import ImplicitModel
from idl_cli.sim.states.layout import StateRecorder, batches_of_inputs
from idl_cli.sim.states.origin import Origin, SampleOrigin
from idl_cli.sim.states.rescaling import rescale_statistics, state_scale
from idl_cli.sim.statistics.column_blocks import ColumnBlockStatistics
from idl_cli.sim.statistics.dense import SufficientStatistics
from idl_cli.sim.statistics.reduction import share_of
from idl_cli.sim.statistics.shared_inputs import SharedInputStatistics

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
        if not bool((self.scale != 1).any()):
            return self.raw
        if isinstance(self.raw, ColumnBlockStatistics):
            return self.raw.rescaled(self.scale)
        return rescale_statistics(self.raw, self.scale)


@dataclass(frozen=True)
class Equilibria:
    """What a pass over a model's equilibria found.

    Attributes:
        statistics: of the equilibria, with the target "Y".
        unconverged: samples whose equilibrium did not converge.
        residual_max: largest relative residual of any sample.
        seconds: wall-clock time of the pass.
    """

    statistics: Statistics
    unconverged: int
    residual_max: float
    seconds: float


def record_states(
    recorder: StateRecorder,
    loader: Loader,
    *,
    samples: int | None,
    kappa: float | None,
    device: torch.device,
    on_samples: Callable[[int], None],
    group: Group | None = None,
    split: bool = False,
    origin: SampleOrigin | None = None,
) -> Recording:
    """Record the statistics of a teacher's states in one pass.

    Args:
        recorder: of the teacher, which is left as it is found.
        loader: gives batches of its inputs.
        samples: how many to record, None for all.
        kappa: rescale the states so that an exact solution with ‖A‖∞ ≤ κ exists; None leaves them.
        device: where the statistics live.
        on_samples: told the number of samples recorded so far, after each batch.
        group: of processes that share the samples, each with the same loader; None for this one
            alone. All of them get the statistics of all samples.
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
    group = Group.single() if group is None else group
    dimensions = (layout.state_dim, layout.feature_dim - layout.state_dim)
    targets = {PRE_ACTIVATIONS: layout.state_dim, OUTPUTS: layout.output_dim}
    statistics: Statistics
    if split:
        statistics = ColumnBlockStatistics(*dimensions, targets, group=group, device=device)
    else:
        statistics = SufficientStatistics(*dimensions, targets, device=device)
    seen = 0
    for inputs in batches_of_inputs(loader, samples):
        seen += len(inputs)
        mine = share_of(inputs, group)
        if len(mine) or split:
            # Without a sample of its own, a process still takes part in putting a batch together.
            kept = len(mine)
            batch = recorder.record(mine if kept else inputs[:1])
            states = {
                PRE_ACTIVATIONS: batch.pre_activations[:kept].to(device),
                OUTPUTS: batch.outputs[:kept].to(device),
            }
            x, u = batch.states[:kept].to(device), batch.inputs[:kept].to(device)
            statistics.update(x, u, states)
        on_samples(seen)
    if isinstance(statistics, SufficientStatistics):
        statistics.sum_over(group)
        statistics.origin = Origin.of(recorder, origin)
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


def record_equilibria(
    model: ImplicitModel,
    recording: Recording,
    loader: Loader,
    *,
    samples: int | None,
    on_samples: Callable[[int], None],
    group: Group | None = None,
) -> Equilibria:
    """Record the statistics of the model's own states against the teacher's outputs.

    Args:
        model: whose A, B and state bias are final; C and D are not used.
        recording: of the teacher.
        loader: the one the states were recorded from.
        samples: how many, as before.
        on_samples: as before.
        group: as before.

    Raises:
        NonFiniteError: an equilibrium diverged to infinity.
    """
    started = time.perf_counter()
    group = Group.single() if group is None else group
    known = recording.raw
    statistics: Statistics | None = None

    def record(update: Callable[[Tensor, Tensor, Tensor], None]) -> None:
        _pass(model, recording, loader, samples, update, on_samples, group)

    if isinstance(known, SufficientStatistics):
        shared = SharedInputStatistics(known, OUTPUTS)
        record(shared.update)
        shared.sum_over(group)
        statistics = shared.result()
    if statistics is None:  # other samples than before, or split by columns: nothing is shared
        statistics = _equilibria_anew(known, record, group)
    unconverged, residual_max = _convergence(model, group)
    return Equilibria(statistics, unconverged, residual_max, time.perf_counter() - started)


def _equilibria_anew(
    known: Statistics,
    record: Callable[[Callable[[Tensor, Tensor, Tensor], None]], None],
    group: Group,
) -> Statistics:
    dimensions, device = (known.state_dim, known.input_dim), known.gram.device
    if isinstance(known, ColumnBlockStatistics):
        targets = {OUTPUTS: known.targets[OUTPUTS]}
        blocks = ColumnBlockStatistics(*dimensions, targets, group=group, device=device)
        record(lambda x, u, y: blocks.update(x, u, {OUTPUTS: y}))
        return blocks
    targets = {OUTPUTS: len(known.cross[OUTPUTS])}
    whole = SufficientStatistics(*dimensions, targets, device=device)
    record(lambda x, u, y: whole.update(x, u, {OUTPUTS: y}))
    whole.sum_over(group)
    return whole


def _convergence(model: ImplicitModel, group: Group) -> tuple[int, float]:
    """Samples whose equilibrium did not converge, and the largest residual, of all processes."""
    found = group.gather_objects(model.solve_statistics.state_dict()["forward"])
    return (
        sum(int(each["unconverged"]) for each in found),
        max(each["residual_max"] for each in found),
    )


def _pass(
    model: ImplicitModel,
    recording: Recording,
    loader: Loader,
    samples: int | None,
    update: Callable[[Tensor, Tensor, Tensor], None],
    on_samples: Callable[[int], None],
    group: Group,
) -> None:
    """Hand equilibria, inputs and the teacher's outputs of this process's share to ``update``."""
    device, parameter = recording.raw.gram.device, model.B
    split = isinstance(recording.raw, ColumnBlockStatistics)
    model.solve_statistics.reset()
    seen, finite = 0, torch.ones(1, dtype=torch.float64, device=device)
    with torch.no_grad():
        for inputs in batches_of_inputs(loader, samples):
            seen += len(inputs)
            mine = share_of(inputs, group)
            if len(mine) or split:
                batch, kept = (
                    recording.recorder.record(mine if len(mine) else inputs[:1]),
                    len(mine),
                )
                x = batch.states[:0].to(parameter)
                if kept:
                    x = model.equilibrium(mine.flatten(1).to(parameter.device, parameter.dtype))
                    finite *= x.isfinite().all().to(finite)
                if not (split or bool(finite)):
                    break
                x, u, y = x[:kept], batch.inputs[:kept], batch.outputs[:kept]
                # Where batches are put together all processes go on to the end of the pass.
                update(x.nan_to_num(0, 0, 0).to(device), u.to(device), y.to(device))
            on_samples(seen)
    group.all_reduce_sum_([finite])  # all processes give up together, or none
    if float(finite) < group.size:
        raise NonFiniteError("an equilibrium of the trained (A, B) diverged to infinity")
