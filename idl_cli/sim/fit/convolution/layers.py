"""The layers of a convolutional model fitted in order, a row for each output channel."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from idl_cli.models.convolutional.feedforward_conv import FeedforwardConv
from idl_cli.models.convolutional.layer_shapes import Weights
from idl_cli.sim.fit.callbacks import Stage
from idl_cli.sim.fit.fits import Fit, StageFit
from idl_cli.sim.fit.fitting import FitSettings, warn_inexact
from idl_cli.sim.fit.layer import LayerFit, fit_layer
from idl_cli.sim.regression.merging import merge_solutions
from idl_cli.sim.regression.solver import Start
from idl_cli.sim.regression.stage_problem import stage_problem
from idl_cli.sim.states.convolution_recording import ConvolutionRecording
from idl_cli.sim.states.maps_so_far import MapsSoFar
from idl_cli.sim.states.recording import DataPass, Loader
from idl_cli.sim.statistics.patches import TARGET


def fit_convolutions(
    recording: ConvolutionRecording,
    loader: Loader,
    settings: FitSettings,
    *,
    limits: Sequence[Tensor] | None = None,
    starts: Sequence[Start] | None = None,
    sequential: bool = True,
) -> tuple[Fit, tuple[Start, ...]]:
    """Fit each layer to the teacher's pre-activations, on the maps of the fitted layers before it.

    Layers whose products add up are fitted together, to what fixed shortcuts leave of their sum.

    Args:
        recording: of the teacher's states.
        loader: of the recorded samples; one pass, or one for each layer (``MapsSoFar``).
        settings: how.
        limits: the number of weights (rows,) of every row, layer by layer, in place of the
            penalties; None for the penalties.
        starts: of the solves, layer by layer; None for nowhere.
        sequential: False: every layer on the teacher's own states, which takes no pass.

    Returns:
        The fit, and where one at another λ may begin.

    Raises:
        NonFiniteError: the solver's weights are NaN or infinite.
    """
    options, callbacks = settings.options, settings.callbacks
    model = copy.deepcopy(recording.teacher).to(settings.device, settings.dtype)
    data = DataPass(
        loader, options.samples, partial(callbacks.on_samples, "equilibria"), settings.group
    )
    maps = MapsSoFar(recording, model, data)
    fitted: list[LayerFit] = []
    for number, layers in enumerate(model.sums):
        started = time.perf_counter()
        stage = _stage_of(number, model)
        statistics = recording.statistics[number]
        if sequential and number > 0:
            statistics = maps.statistics(number)
        penalty = options.lambda_z if stage == "ab" else options.lambda_y
        problem = stage_problem(
            statistics,
            TARGET,
            penalty=penalty if limits is None else 0.0,
            scale=options.lambda_scale,
            l2=options.l2,
        )
        if limits is not None:
            problem = replace(problem, nonzeros=limits[number].to(problem.cross.device))
        part = fit_layer(
            problem,
            settings,
            stage,
            None if starts is None else starts[number],
            count=statistics.count,
            has_constant=layers[-1].bias is not None,
            started=started,
            warn=limits is not None,  # of penalties: what is ignored was said before the data
        )
        if part.solution.status == "inexact" and limits is None:
            warn_inexact(f"layer {number}", settings, part.solution)
        _set(layers, part.solution.stored)
        fitted.append(part)
    hidden = fitted[:-1]
    square = sum(part.target for part in hidden)
    found = Fit(
        options=options,
        model=model,
        ab=_together(hidden[::-1], model.inf_norm_A(), options.tol),
        cd=_together(fitted[-1:], 0.0, options.tol),
        state_fit=(sum(part.residual for part in hidden) / square) ** 0.5 if square > 0 else 0.0,
        equilibria=None,
        seconds_equilibria=0.0,
    )
    begins = [part.solution.start for part in fitted]
    return found, tuple(begin for begin in begins if begin is not None)


def _stage_of(number: int, model: FeedforwardConv) -> Stage:
    return "cd" if number == len(model.sums) - 1 else "ab"


@torch.no_grad()
def _set(layers: Sequence[Weights], rows: Tensor) -> None:
    """Give the layers of a sum the weights (rows, features), offsets last."""
    sizes = [layer.weight[0].numel() for layer in layers]
    for layer, part in zip(layers, torch.split(rows[:, : sum(sizes)], sizes, dim=1), strict=True):
        layer.weight.copy_(part.reshape(layer.weight.shape))
    if layers[-1].bias is not None:
        layers[-1].bias.copy_(rows[:, -1])


def _together(parts: Sequence[LayerFit], norm: float, tol: float) -> StageFit:
    """Layers as one answer, in the order of the states."""
    answers = [part.solution for part in parts]
    widest = max(answer.weights.shape[1] for answer in answers)
    weights = torch.cat(
        [functional.pad(each.weights, (0, widest - each.weights.shape[1])) for each in answers]
    )
    # In one row, so that a share of these numbers does not count what pads the rows above.
    stored = torch.cat([answer.stored.flatten() for answer in answers])[None]
    return StageFit(
        problem=None,
        solution=merge_solutions(answers, weights, stored, stored_inf_norm=norm, tol=tol),
        seconds=sum(part.seconds for part in parts),
        penalty=max(part.penalty for part in parts),
        row_r2=torch.cat([part.r2 for part in parts]),
    )
