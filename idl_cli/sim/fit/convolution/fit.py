"""A sparse convolutional model, by l1 penalties or with a limit on its non-zeros."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from idl_cli.models.convolutional.feedforward_conv import FeedforwardConv
from idl_cli.sim.fit.callbacks import SimCallbacks
from idl_cli.sim.fit.convolution.layers import fit_convolutions
from idl_cli.sim.fit.fits import Fit, Starts
from idl_cli.sim.fit.fitted_model import FittedModel
from idl_cli.sim.fit.fitting import FitSettings
from idl_cli.sim.fit.sparse.fit import refined
from idl_cli.sim.fit.sparse.plan import Plan, plan_of
from idl_cli.sim.fit.sparse.refinement import chosen_loss
from idl_cli.sim.fit.sparse.sensitivity import output_sensitivity
from idl_cli.sim.regression.solver import Start
from idl_cli.sim.regression.stage_problem import stage_problem
from idl_cli.sim.states.convolution_recording import ConvolutionRecording
from idl_cli.sim.states.recording import Loader
from idl_cli.sim.statistics.patches import TARGET


@dataclass(frozen=True, eq=False)
class _Memory:
    """What a fit at another λ, or with another limit, can use again."""

    starts: tuple[Start, ...]
    plan: Plan | None


def fit_kernels(
    recording: ConvolutionRecording,
    loader: Loader,
    settings: FitSettings,
    *,
    starts: Starts | None = None,
) -> Fit:
    """Fit the kernels of all layers; with ``options.nonzeros`` spend it, and refine.

    Args:
        recording: of the teacher's states.
        loader: the one they were recorded from.
        settings: how.
        starts: of another fit, whose work is used again.

    Raises:
        NonFiniteError: the solver's weights are NaN or infinite.
    """
    options = settings.options
    memory = None if starts is None else starts.ab.memory
    known = memory if isinstance(memory, _Memory) else _Memory((), None)
    fitted = partial(fit_convolutions, recording, loader, settings)
    if options.nonzeros is None:
        found, begins = fitted(starts=known.starts or None, sequential=options.regenerate_states)
        return _remembering(found, _Memory(begins, None))
    started = time.perf_counter()
    plan = known.plan
    if plan is None or not plan.serves(recording, options):
        plan = _make_plan(recording, loader, settings)
    planned = time.perf_counter() - started
    eliminated = _eliminated(recording, plan)
    found, _ = fitted(
        limits=plan.sizes(options),
        starts=eliminated,
        sequential=options.regenerate_states,
    )
    if options.refine_epochs != 0:
        quiet = replace(settings, callbacks=SimCallbacks())

        def larger(share: float) -> FittedModel:
            more, _ = fit_convolutions(
                recording,
                loader,
                quiet,
                limits=plan.sizes(replace(options, nonzeros=share)),
                starts=eliminated,
                sequential=False,
            )
            return more.model

        found = refined(found, plan, loader, settings, larger=larger, stored=_stored)
    stage = replace(found.ab, seconds=found.ab.seconds + planned)
    found = replace(found, ab=stage, teacher_parameters=plan.parameters)
    return _remembering(found, _Memory((), plan))


def _make_plan(recording: ConvolutionRecording, loader: Loader, settings: FitSettings) -> Plan:
    """Weigh the channels and eliminate all weights of every one once."""
    teacher, options = recording.teacher, settings.options
    loss = chosen_loss(options.refine_loss, loader, teacher.output_dim)
    of_states, of_outputs = output_sensitivity(teacher, loader, loss)
    # A row has an error at every place, and its objective adds up their squares: what the outputs
    # feel of a square is the mean over the places.
    channels = [
        maps.reshape(maps.shape[1], -1).mean(dim=1) for maps in teacher.blocks(of_states[None])
    ]
    problems = [
        stage_problem(statistics, TARGET, penalty=0.0, l2=options.l2)
        for statistics in recording.statistics
    ]
    return plan_of(recording, settings, (), [*channels, of_outputs], problems)


def _eliminated(recording: ConvolutionRecording, plan: Plan) -> list[Start]:
    crosses: Sequence[Tensor] = [each.cross[TARGET] for each in recording.statistics]
    pairs = zip(crosses, plan.eliminations, strict=True)
    return [Start(torch.zeros_like(cross), elimination) for cross, elimination in pairs]


def _stored(model: FittedModel) -> dict[str, Tensor]:
    assert isinstance(model, FeedforwardConv)
    layers = [
        torch.cat([p.detach().flatten() for layer in layers for p in layer.parameters()])
        for layers in model.sums
    ]
    return {"ab": torch.cat(layers[-2::-1])[None], "cd": layers[-1][None]}


def _remembering(found: Fit, memory: _Memory) -> Fit:
    start = found.ab.solution.start
    assert start is not None
    solution = replace(found.ab.solution, start=Start(start.weights, memory))
    return replace(found, ab=replace(found.ab, solution=solution))
