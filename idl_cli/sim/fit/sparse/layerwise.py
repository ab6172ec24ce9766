"""The layers of a feed-forward model fitted in order, the outputs last."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from idl_cli.sim.fit.callbacks import Stage
from idl_cli.sim.fit.fits import Fit, StageFit
from idl_cli.sim.fit.fitted_model import assemble
from idl_cli.sim.fit.fitting import FitSettings
from idl_cli.sim.fit.layer import LayerFit, fit_layer
from idl_cli.sim.fit.sparse.layers import Layer
from idl_cli.sim.fit.sparse.plan import Plan
from idl_cli.sim.fit.sparse.sequential import TARGET, dense_statistics, sparse_statistics
from idl_cli.sim.regression.merging import merge_solutions
from idl_cli.sim.regression.solver import Start
from idl_cli.sim.regression.stage_problem import stage_problem
from idl_cli.sim.states.recording import OUTPUTS, PRE_ACTIVATIONS, DataPass, Loader, Recording

_Part: TypeAlias = tuple[Layer, LayerFit]


def fit_layers(
    plan: Plan,
    sizes: Sequence[Tensor],
    loader: Loader,
    settings: FitSettings,
    *,
    sequential: bool = True,
) -> Fit:
    """Fit one layer after another on the states of the sparse layers before it.

    Args:
        plan: with layers.
        sizes: the number of weights (rows,) of every row, layer by layer.
        loader: of the recorded samples; one pass for each layer but the first.
        settings: how.
        sequential: False: every layer on the teacher's own states, which takes no pass.

    Raises:
        NonFiniteError: the solver's weights are NaN or infinite.
    """
    recording, options = plan.recording, settings.options
    assert isinstance(recording, Recording)
    layout = recording.recorder.layout
    like = {"dtype": settings.dtype, "device": settings.device}
    stored: dict[Stage, Tensor] = {
        "ab": torch.zeros(layout.state_dim, layout.feature_dim, **like),  # type: ignore[call-overload]
        "cd": torch.zeros(layout.output_dim, layout.feature_dim, **like),  # type: ignore[call-overload]
    }
    data = DataPass(
        loader,
        options.samples,
        partial(settings.callbacks.on_samples, "equilibria"),
        settings.group,
    )
    fitted: dict[Stage, list[_Part]] = {"ab": [], "cd": []}
    for index, layer in enumerate(plan.layers):
        started = time.perf_counter()
        stage: Stage = "cd" if layer.is_output else "ab"
        if index == 0 or not sequential:
            statistics = dense_statistics(recording, layer)
        else:
            statistics = sparse_statistics(
                recording.recorder,
                data,
                layer,
                plan.layers[:index],
                stored["ab"],
                device=settings.device,
            )
        problem = replace(
            stage_problem(statistics, TARGET, penalty=0.0, l2=options.l2),
            nonzeros=sizes[index].to(settings.device),
        )
        part = fit_layer(
            problem,
            settings,
            stage,
            Start(torch.zeros_like(problem.cross), plan.eliminations[index]),
            count=statistics.count,
            has_constant=layout.has_bias,
            started=started,
        )
        stored[stage][layer.rows] = layer.spread(part.solution.stored, layout.feature_dim)
        fitted[stage].append((layer, part))
    model = assemble(
        stored["ab"],
        stored["cd"],
        layout,
        kappa=options.kappa,
        device=settings.device,
        triangular=True,
    )
    ab = _stage(recording, "ab", fitted["ab"], stored["ab"], options.tol)
    lost = sum(part.residual for _, part in fitted["ab"])
    assert ab.problem is not None
    square = float(ab.problem.target_square.sum())
    return Fit(
        options=options,
        model=model,
        ab=ab,
        cd=_stage(recording, "cd", fitted["cd"], stored["cd"], options.tol),
        state_fit=(lost / square) ** 0.5 if square > 0 else 0.0,
        equilibria=None,
        seconds_equilibria=0.0,
    )


def _stage(
    recording: Recording, stage: Stage, parts: Sequence[_Part], stored: Tensor, tol: float
) -> StageFit:
    """The layers of a stage as one answer, rows in the order of the states."""
    ordered = sorted(parts, key=lambda part: part[0].rows.start)
    answers = [part.solution for _, part in ordered]
    weights = torch.cat(
        [layer.spread(part.solution.weights, stored.shape[1]) for layer, part in ordered]
    )
    name = OUTPUTS if stage == "cd" else PRE_ACTIVATIONS
    problem = replace(
        stage_problem(recording.raw, name, penalty=0.0),
        nonzeros=(weights != 0).sum(dim=1),
    )
    states = recording.recorder.layout.state_dim
    norm = float(stored[:, :states].double().abs().sum(dim=1).max())
    solution = merge_solutions(answers, weights, stored, stored_inf_norm=norm, tol=tol)
    seconds = sum(part.seconds for _, part in ordered)
    return StageFit(problem, solution, seconds, 0.0, torch.cat([part.r2 for _, part in ordered]))
