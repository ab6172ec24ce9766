"""A model with a limit on its non-zeros, from recorded states."""

from __future__ import annotations

import time
from copy import deepcopy
from dataclasses import replace

import torch

from idl_cli.models.implicit import ImplicitModel
from idl_cli.sim.fit.callbacks import SimCallbacks
from idl_cli.sim.fit.fits import Fit, StageFit, Starts
from idl_cli.sim.fit.fitting import FitSettings, fit
from idl_cli.sim.fit.options import SimOptions
from idl_cli.sim.fit.sparse.layerwise import fit_layers
from idl_cli.sim.fit.sparse.plan import Plan, make_plan
from idl_cli.sim.fit.sparse.refinement import refine, steps_of
from idl_cli.sim.regression.solver import Start
from idl_cli.sim.states.recording import Loader, Recording

AMPLE = 4
"""Times the weights that are kept, which a gradual refinement begins with."""
GRADUAL_SHARE = 0.1
"""A larger share is refined as it is: its supports are good already, and what goes is missed."""
GRADUAL_STEPS = 1000
"""A shorter refinement, as one on few samples is, has no time to lose weights and recover."""


def fit_supports(
    recording: Recording, loader: Loader, settings: FitSettings, *, starts: Starts | None = None
) -> Fit:
    """Spend ``options.nonzeros`` over the model, fit the rows on their supports, refine.

    Args:
        recording: of the teacher's states, whole.
        loader: the one they were recorded from.
        settings: how, with ``nonzeros`` and a solver that knows a limit on non-zeros.
        starts: of another number of non-zeros: its eliminations are used again.

    Raises:
        UnsupportedModelError: the teacher has no weights or no layers to go by.
        NonFiniteError: the solver's weights are NaN or infinite.
    """
    options = settings.options
    started = time.perf_counter()
    known = None if starts is None else starts.ab.memory
    if isinstance(known, Plan) and known.serves(recording, options):
        plan = known
    else:
        plan = make_plan(recording, loader, settings)
    planned = time.perf_counter() - started
    sizes = plan.sizes(options)
    if plan.layers:
        found = fit_layers(plan, sizes, loader, settings)
    else:
        zero = Starts.zero(recording)
        begin = Starts(
            Start(zero.ab.weights, plan.eliminations[0]),
            Start(zero.cd.weights, plan.eliminations[1]),
        )
        found = fit(recording, loader, settings, starts=begin, limits=(sizes[0], sizes[1]))
    if options.refine_epochs != 0:
        found = _refined(found, plan, loader, settings)
    start = found.ab.solution.start
    assert start is not None
    ab = replace(found.ab.solution, start=Start(start.weights, plan))
    stage = replace(found.ab, solution=ab, seconds=found.ab.seconds + planned)
    return replace(found, ab=stage, teacher_parameters=plan.parameters)


def begins_with(options: SimOptions, count: int) -> float | None:
    """The share of weights that a gradual refinement begins with; None for one that is not.

    Args:
        options: with ``nonzeros``.
        count: samples.
    """
    assert options.nonzeros is not None
    _, steps = steps_of(count, options.refine_epochs)
    gradual = options.nonzeros <= GRADUAL_SHARE and steps >= GRADUAL_STEPS
    return AMPLE * options.nonzeros if gradual else None


def _refined(found: Fit, plan: Plan, loader: Loader, settings: FitSettings) -> Fit:
    """Move the kept weights towards the teacher's outputs."""
    started = time.perf_counter()
    recorder, options, count = plan.recording.recorder, settings.options, plan.recording.count
    ample = begins_with(options, count)
    if plan.layers and ample is not None:
        sizes = plan.sizes(replace(options, nonzeros=ample))
        quiet = replace(settings, callbacks=SimCallbacks())
        begin = fit_layers(plan, sizes, loader, quiet, sequential=False).model
    else:
        begin = deepcopy(found.model)
    model, report = refine(
        found.model,
        begin,
        plan.layers,
        recorder,
        loader,
        nonzeros=sum(int(size.sum()) for size in plan.sizes(options)),
        samples=options.samples,
        count=count,
        epochs=options.refine_epochs,
        loss=options.refine_loss,
        group=settings.group,
    )
    assert isinstance(model, ImplicitModel)
    weights = model.effective_weights()
    biases = recorder.layout.has_bias
    stages = {}
    for name, parts, bias in (
        ("ab", (weights.A, weights.B), weights.state_bias),
        ("cd", (weights.C, weights.D), weights.output_bias),
    ):
        columns = [part.detach() for part in parts]
        if biases:
            columns.append(bias.detach()[:, None])
        stage: StageFit = getattr(found, name)
        solution = replace(stage.solution, stored=torch.cat(columns, dim=1))
        stages[name] = replace(stage, solution=solution)
    return replace(
        found,
        model=model,
        ab=stages["ab"],
        cd=stages["cd"],
        refinement=report,
        seconds_refinement=time.perf_counter() - started,
    )
