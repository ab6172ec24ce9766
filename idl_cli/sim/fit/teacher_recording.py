"""What is recorded of a teacher, and how: by its states or by its kernels, whole or split."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from idl_cli.distributed.group import Group
from idl_cli.errors import ArgumentError, IgnoredOptionWarning
from idl_cli.sim.fit.callbacks import SimCallbacks
from idl_cli.sim.fit.options import SimOptions
from idl_cli.sim.regression.solver import BaseSolver
from idl_cli.sim.states.convolution_recorder import ConvolutionRecorder
from idl_cli.sim.states.convolution_recording import AnyRecording, record_convolutions
from idl_cli.sim.states.layout import StateRecorder, batches_of_inputs
from idl_cli.sim.states.origin import SampleOrigin
from idl_cli.sim.states.recorders import state_recorder
from idl_cli.sim.states.recording import DataPass, Loader, load_recording, record_states
from idl_cli.sim.states.state_scale import why_not_rescalable
from idl_cli.sim.statistics.block_matrix import WHOLE_FEATURES
from idl_cli.sim.statistics.dense import SufficientStatistics


def record_teacher(
    teacher: nn.Module,
    loader: Loader,
    options: SimOptions,
    *,
    activation: str | None,
    statistics: SufficientStatistics | None,
    solver: BaseSolver | None,
    callbacks: SimCallbacks,
    origin: SampleOrigin | None,
    device: torch.device,
    group: Group,
) -> AnyRecording:
    """Record the statistics of a network's states; arguments and errors are of ``SIM.record``.

    Args:
        teacher: the network.
        loader: of its inputs.
        options: what is asked for.
        activation: name that the teacher's φ must have; None for any.
        statistics: saved before; None to go through the data.
        solver: of both problems.
        callbacks: told what happens.
        origin: which samples the loader gives.
        device: of the statistics.
        group: processes that share the pass.
    """
    if isinstance(loader, Iterator):
        raise ArgumentError(
            "dataloader is an iterator, which gives its batches once; hand in what it was made "
            "from (a DataLoader, a list), which can be gone through again"
        )
    first = next(batches_of_inputs(loader, None), None)
    if first is None:
        raise ArgumentError("the loader has no samples to record states of")
    data = DataPass(loader, options.samples, partial(callbacks.on_samples, "states"), group)
    if options.structure == "convolution":
        kernels = ConvolutionRecorder(teacher, first)
        options.check_activation(kernels.layout, activation)
        return record_convolutions(kernels, data, device=device)
    recorder = _recorder(teacher, first, options, solver, group)
    options.check_activation(recorder.layout, activation)
    kappa = _kappa(recorder, options)
    if statistics is not None:
        return load_recording(statistics, recorder, kappa=kappa, origin=origin)
    features = recorder.layout.feature_dim
    split = solver is not None and solver.splits_columns(features, group.size)
    return record_states(recorder, data, kappa=kappa, device=device, origin=origin, split=split)


def _recorder(
    teacher: nn.Module, first: Tensor, options: SimOptions, solver: BaseSolver | None, group: Group
) -> StateRecorder:
    largest = WHOLE_FEATURES
    if solver is not None and solver.splits_columns(WHOLE_FEATURES + 1, group.size):
        largest = round(WHOLE_FEATURES * group.size**0.5)  # as much memory in each of them
    return state_recorder(teacher, first, names=options.states, max_features=largest)


def _kappa(recorder: StateRecorder, options: SimOptions) -> float | None:
    """The κ that states are rescaled for; None where they are left as they are."""
    if not options.rescale or options.structure == "feedforward":
        return None
    reason = why_not_rescalable(recorder)
    if reason is None:
        return options.kappa
    warnings.warn(
        f"rescale: the states are left as they are, {reason}", IgnoredOptionWarning, stacklevel=4
    )
    return None
