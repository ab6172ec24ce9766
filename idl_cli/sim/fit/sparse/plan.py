"""What fits with different limits on non-zeros share: sensitivities, layers, eliminations."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.errors import IgnoredOptionWarning
from idl_cli.sim.fit.fitting import FitSettings
from idl_cli.sim.fit.options import SimOptions
from idl_cli.sim.fit.sparse.allocation import allocate
from idl_cli.sim.fit.sparse.layers import Layer, feedforward_layers
from idl_cli.sim.fit.sparse.refinement import chosen_loss
from idl_cli.sim.fit.sparse.sensitivity import output_sensitivity
from idl_cli.sim.fit.sparse.sequential import TARGET, dense_statistics
from idl_cli.sim.regression.limited import LimitedForm
from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.solver import NONZEROS, BaseSolver
from idl_cli.sim.regression.stage_problem import stage_problem
from idl_cli.sim.regression.units import Units
from idl_cli.sim.solvers.active_set import ActiveSetSolver
from idl_cli.sim.solvers.options import BackwardEliminationOptions
from idl_cli.sim.solvers.supports.backward_elimination import BackwardEliminationSolver
from idl_cli.sim.solvers.supports.elimination import Elimination
from idl_cli.sim.states.convolution_recording import AnyRecording
from idl_cli.sim.states.implicit_form import implicit_form
from idl_cli.sim.states.recording import OUTPUTS, PRE_ACTIVATIONS, Loader, Recording


@dataclass(frozen=True, eq=False)
class Plan:
    """The part of a fit that does not depend on how many weights are kept.

    Attributes:
        recording: whose plan it is.
        options: what it was made for; those that share it differ in ``nonzeros`` at most.
        parameters: number of the teacher's parameters.
        layers: of a feed-forward model; empty for the other structures.
        sensitivity: (rows,) of each layer, or with ``structure=full`` of [A B] and [C D].
        eliminations: of the dense rows of the same, as the solver gets them.
        costs: (rows, D_l), what the error of each row rises by when its weights go one by one.
    """

    recording: AnyRecording
    options: SimOptions
    parameters: int
    layers: tuple[Layer, ...]
    sensitivity: tuple[Tensor, ...]
    eliminations: tuple[Elimination, ...]
    costs: tuple[Tensor, ...]

    def serves(self, recording: AnyRecording, options: SimOptions) -> bool:
        """Whether this is the plan of other states or options too."""
        same = replace(self.options, nonzeros=options.nonzeros) == options
        return self.recording is recording and same

    def sizes(self, options: SimOptions) -> list[Tensor]:
        """The number of weights (rows,) of every row, layer by layer."""
        assert options.nonzeros is not None
        slots = sum(cost.numel() for cost in self.costs)
        kept = min(slots, max(1, round(options.nonzeros * self.parameters)))
        return allocate(self.costs, self.sensitivity, kept, options.allocation)


def make_plan(recording: Recording, loader: Loader, settings: FitSettings) -> Plan:
    """Weigh the states and eliminate all weights of every row once.

    Args:
        recording: of the teacher's states.
        loader: of its inputs.
        settings: structure, connections; the solver's ridge, where it has one, is that of the
            eliminations, and its processes share the rows.

    Raises:
        UnsupportedModelError: the teacher has no weights or no layers to go by.
    """
    recorder, options = recording.recorder, settings.options
    teacher = implicit_form(recorder)
    loss = chosen_loss(options.refine_loss, loader, recorder.layout.output_dim)
    of_states, of_outputs = output_sensitivity(teacher, loader, loss)
    layers: tuple[Layer, ...] = ()
    if options.structure == "feedforward":
        layers = tuple(
            feedforward_layers(recorder, teacher, skip_connections=options.skip_connections)
        )
        problems = [
            stage_problem(dense_statistics(recording, layer), TARGET, penalty=0.0, l2=options.l2)
            for layer in layers
        ]
        weights = [of_outputs if each.is_output else of_states[each.rows] for each in layers]
    else:
        problems = [
            stage_problem(recording.statistics, name, penalty=0.0, l2=options.l2)
            for name in (PRE_ACTIVATIONS, OUTPUTS)
        ]
        # Of pre-activations divided by the scale the outputs feel as much more.
        weights = [of_states * recording.scale.to(of_states).square(), of_outputs]
    return plan_of(recording, settings, layers, weights, problems)


def plan_of(
    recording: AnyRecording,
    settings: FitSettings,
    layers: tuple[Layer, ...],
    sensitivity: Sequence[Tensor],
    problems: Sequence[RowRegression],
) -> Plan:
    """Eliminate all weights of every row once.

    Args:
        recording: of the teacher's states.
        settings: as for ``make_plan``.
        layers: of a feed-forward model.
        sensitivity: (rows,) of each problem.
        problems: unpenalised.
    """
    ridge = getattr(settings.solver, "ridge", BackwardEliminationOptions.ridge)
    found = [_eliminated(problem, ridge, settings.group) for problem in problems]
    return Plan(
        recording,
        settings.options,
        sum(p.numel() for p in recording.recorder.teacher.parameters()),
        layers,
        tuple(sensitivity),
        eliminations=tuple(elimination for elimination, _ in found),
        costs=tuple(costs for _, costs in found),
    )


def _eliminated(problem: RowRegression, ridge: float, group: Group) -> tuple[Elimination, Tensor]:
    """The elimination of a problem as the solver gets it, and its costs in the problem's units."""
    form = LimitedForm.of(problem)
    units = Units.of(form.problem)
    elimination = Elimination.of(units.scaled(form.problem), ridge, group)
    costs = elimination.path.increments * units.target.square()[:, None]
    return elimination, form.removal_costs(costs)


def support_solver(solver: BaseSolver) -> BaseSolver:
    """``solver``, or backward elimination where it knows no limit on non-zeros.

    The default, ``active_set``, stands for whatever suits the problem; another choice that cannot
    be honoured is warned of.
    """
    if NONZEROS in solver.handles:
        return solver
    if not isinstance(solver, ActiveSetSolver):
        warnings.warn(
            f"{type(solver).__name__} knows no limit on non-zeros: backward_elimination solves in "
            "its place; choose solver=backward_elimination, top_k, swaps or relaxed with "
            "trainer.nonzeros",
            IgnoredOptionWarning,
            stacklevel=3,
        )
    return BackwardEliminationSolver()
