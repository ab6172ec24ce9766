"""One pass over a teacher's states, or over a model's equilibria: batches in, statistics out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.errors import NonFiniteError, ShapeError
from idl_cli.models.implicit import ImplicitModel
from idl_cli.sim.reduction import share_of
from idl_cli.sim.rescaling import rescale_statistics, state_scale
from idl_cli.sim.shared_inputs import SharedInputStatistics
from idl_cli.sim.states import StateRecorder, batches_of_inputs
from idl_cli.sim.statistics import SufficientStatistics

Loader = Iterable[Tensor | Sequence[Tensor]]
"""Batches of inputs, or of (inputs, targets, …)."""

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
    raw: SufficientStatistics
    scale: Tensor
    seconds: float

    @cached_property
    def statistics(self) -> SufficientStatistics:
        """The statistics of the states divided by ``scale``."""
        rescaled = bool((self.scale != 1).any())
        return rescale_statistics(self.raw, self.scale) if rescaled else self.raw


@dataclass(frozen=True)
class Equilibria:
    """What a pass over a model's equilibria found.

    Attributes:
        statistics: of the equilibria, with the target "Y".
        unconverged: samples whose equilibrium did not converge.
        residual_max: largest relative residual of any sample.
        seconds: wall-clock time of the pass.
    """

    statistics: SufficientStatistics
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

    Raises:
        UnsupportedModelError, ShapeError, NonFiniteError: see ``states``; and, with ``kappa``, a
            teacher that no scaling makes contractive.
    """
    started = time.perf_counter()
    layout = recorder.layout
    # The scale comes before the pass: a teacher that has none is refused before the work.
    scale = _scale(recorder, kappa)
    statistics = SufficientStatistics(
        layout.state_dim,
        layout.feature_dim - layout.state_dim,
        {PRE_ACTIVATIONS: layout.state_dim, OUTPUTS: layout.output_dim},
        device=device,
    )
    group, seen = Group.single() if group is None else group, 0
    for inputs in batches_of_inputs(loader, samples):
        seen += len(inputs)
        inputs = share_of(inputs, group)
        if len(inputs):
            batch = recorder.record(inputs)
            targets = {PRE_ACTIVATIONS: batch.pre_activations, OUTPUTS: batch.outputs}
            statistics.update(
                batch.states.to(device),
                batch.inputs.to(device),
                {name: target.to(device) for name, target in targets.items()},
            )
        on_samples(seen)
    statistics.sum_over(group)
    return Recording(recorder, statistics, scale, time.perf_counter() - started)


def load_recording(
    statistics: SufficientStatistics, recorder: StateRecorder, *, kappa: float | None
) -> Recording:
    """A recording from statistics of raw states that were saved before.

    Args:
        statistics: with the targets "Z" and "Y".
        recorder: of the teacher they are of.
        kappa: as for ``record_states``.

    Raises:
        ShapeError: the statistics are of another teacher.
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
    scale = _scale(recorder, kappa)
    return Recording(recorder, statistics, scale, time.perf_counter() - started)


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
    shared = SharedInputStatistics(known, OUTPUTS)
    _pass(model, recording, loader, samples, shared.update, on_samples, group)
    shared.sum_over(group)
    statistics = shared.result()
    if statistics is None:  # the loader gave other samples than before: nothing can be shared
        fresh = SufficientStatistics(
            known.state_dim,
            known.input_dim,
            {OUTPUTS: len(known.cross[OUTPUTS])},
            device=known.gram.device,
        )
        _pass(
            model,
            recording,
            loader,
            samples,
            lambda x, u, y: fresh.update(x, u, {OUTPUTS: y}),
            on_samples,
            group,
        )
        fresh.sum_over(group)
        statistics = fresh
    unconverged, residual_max = _convergence(model, group)
    return Equilibria(statistics, unconverged, residual_max, time.perf_counter() - started)


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
    model.solve_statistics.reset()
    seen, finite = 0, torch.ones(1, dtype=torch.float64, device=device)
    with torch.no_grad():
        for inputs in batches_of_inputs(loader, samples):
            seen += len(inputs)
            inputs = share_of(inputs, group)
            if len(inputs):
                batch = recording.recorder.record(inputs)
                flat = inputs.flatten(1).to(parameter.device, parameter.dtype)
                equilibria = model.equilibrium(flat)
                finite *= equilibria.isfinite().all().to(finite)
                if not bool(finite):
                    break
                update(equilibria.to(device), batch.inputs.to(device), batch.outputs.to(device))
            on_samples(seen)
    group.all_reduce_sum_([finite])  # all processes give up together, or none
    if float(finite) < group.size:
        raise NonFiniteError("an equilibrium of the trained (A, B) diverged to infinity")
