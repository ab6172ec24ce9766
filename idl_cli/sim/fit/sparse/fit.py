"""A model with a limit on its non-zeros, from recorded states."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from idl_cli.models.implicit import ImplicitModel
from idl_cli.sim.fit.callbacks import SimCallbacks
from idl_cli.sim.fit.fits import Fit, Starts
from idl_cli.sim.fit.fitted_model import FittedModel
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
GRADUAL_ROW = 64
"""So is one with more weights a row, which make up for each other: 0.05 of 3072-512-256-10."""
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
        quiet = replace(settings, callbacks=SimCallbacks())

        def larger(share: float) -> FittedModel:
            sizes = plan.sizes(replace(options, nonzeros=share))
            return fit_layers(plan, sizes, loader, quiet, sequential=False).model

        found = refined(
            found,
            plan,
            loader,
            settings,
            larger=larger if plan.layers else None,
            stored=partial(_stored, has_bias=recording.recorder.layout.has_bias),
        )
    start = found.ab.solution.start
    assert start is not None
    ab = replace(found.ab.solution, start=Start(start.weights, plan))
    stage = replace(found.ab, solution=ab, seconds=found.ab.seconds + planned)
    return replace(found, ab=stage, teacher_parameters=plan.parameters)


def _begins_with(options: SimOptions, count: int, weights_a_row: float) -> float | None:
    """The share of weights that a gradual refinement begins with; None for one that is not.

    Args:
        options: with ``nonzeros``.
        count: samples.
        weights_a_row: that are kept in the mean.
    """
    assert options.nonzeros is not None
    _, steps = steps_of(count, options.refine_epochs)
    few = options.nonzeros <= GRADUAL_SHARE and weights_a_row <= GRADUAL_ROW
    gradual = few and steps >= GRADUAL_STEPS
    return AMPLE * options.nonzeros if gradual else None


def _stored(model: FittedModel, *, has_bias: bool) -> dict[str, Tensor]:
    assert isinstance(model, ImplicitModel)
    weights = model.effective_weights()
    rows = {}
    for name, parts, bias in (
        ("ab", (weights.A, weights.B), weights.state_bias),
        ("cd", (weights.C, weights.D), weights.output_bias),
    ):
        columns = [part.detach() for part in parts]
        if has_bias:
            columns.append(bias.detach()[:, None])
        rows[name] = torch.cat(columns, dim=1)
    return rows


def refined(
    found: Fit,
    plan: Plan,
    loader: Loader,
    settings: FitSettings,
    *,
    larger: Callable[[float], FittedModel] | None,
    stored: Callable[[FittedModel], Mapping[str, Tensor]],
) -> Fit:
    """Move the kept weights towards the teacher's outputs.

    Args:
        found: the model of a limit on non-zeros, as it was fitted.
        plan: that the limit is spent by.
        loader: of the recorded samples.
        settings: how.
        larger: fits the model that keeps a larger share of weights, from which a gradual refinement
            begins; None where there is none.
        stored: returns the numbers of a model's ``ab`` and ``cd``, in rows.
    """
    started = time.perf_counter()
    options, recording = settings.options, plan.recording
    sizes = torch.cat(plan.sizes(options))
    nonzeros = int(sizes.sum())
    ample = _begins_with(options, recording.count, nonzeros / len(sizes))
    model, report = refine(
        found.model,
        None if larger is None or ample is None else partial(larger, ample),
        plan.layers,
        recording.recorder,
        loader,
        nonzeros=nonzeros,
        rows=len(sizes),
        samples=options.samples,
        count=recording.count,
        epochs=options.refine_epochs,
        loss=options.refine_loss,
        group=settings.group,
    )
    stages = {
        name: replace(stage, solution=replace(stage.solution, stored=rows))
        for name, rows in stored(model).items()
        for stage in [getattr(found, name)]
    }
    return replace(
        found,
        model=model,
        refinement=report,
        seconds_refinement=time.perf_counter() - started,
        **stages,
    )
