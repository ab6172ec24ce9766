"""A path of λ: the answers of fits on their own, each with its certificate."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.errors import ArgumentError
from idl_cli.models.explicit import MLP
from idl_cli.sim.fit.callbacks import SimCallbacks
from idl_cli.sim.fit.fits import Fit
from idl_cli.sim.fit.fitting import with_penalties
from idl_cli.sim.fit.path import PathGrid, fit_path, path_row
from idl_cli.sim.sim import SIM
from idl_cli.sim.solvers import ActiveSetSolver, ADMMMultiGPUSolver, ADMMSolver, BaseSolver
from idl_cli.sim.states.recording import Recording
from tests.sim.ranks import run_ranks

PENALTIES = (1e-3, 0.3, 1e-2)


def _recorded(
    solver: BaseSolver | None = None, **options: object
) -> tuple[SIM, Recording, list[Tensor]]:
    torch.manual_seed(0)
    teacher = MLP((12,), 3, hidden_dims=(10, 6))
    batches = list(torch.randn(120, 12).split(40))
    sim = SIM(tol=1e-9, **options)  # type: ignore[arg-type]
    return sim, sim.record(model=teacher, dataloader=batches, solver=solver), batches


def _fits(
    sim: SIM, recording: Recording, batches: list[Tensor], solver: BaseSolver
) -> Iterator[Fit]:
    return fit_path(
        sim,
        recording,
        PENALTIES,
        dataloader=batches,
        solver=solver,
        options=sim.options,
        callbacks=SimCallbacks(),
    )


@pytest.mark.parametrize("solver", [ActiveSetSolver(), ADMMSolver()], ids=["active_set", "admm"])
def test_a_path_gives_the_models_of_fits_on_their_own(solver: BaseSolver) -> None:
    sim, recording, batches = _recorded()
    fits = list(_fits(sim, recording, batches, solver))
    assert [fit.options.lambda_z for fit in fits] == sorted(PENALTIES, reverse=True)
    for found in fits:
        assert found.options.lambda_y == pytest.approx(0.1 * found.options.lambda_z)
        alone = sim.fit(
            recording,
            dataloader=batches,
            solver=solver,
            options=with_penalties(sim.options, found.options.lambda_z),
        )
        for ours, theirs in ((found.ab, alone.ab), (found.cd, alone.cd)):
            certificate = ours.solution.certificate
            assert ours.solution.status == "optimal"
            assert certificate.feasible
            assert certificate.objective == pytest.approx(
                theirs.solution.certificate.objective, rel=1e-8 if ours is found.cd else 1e-9
            )
        row = path_row(found)
        assert row["nonzeros"] == found.nonzeros
        assert row["ab_objective"] == found.ab.solution.certificate.objective


def _path_in_ranks(group: Group, solver: BaseSolver) -> list[tuple[list[str], list[float]]]:
    sim, recording, batches = _recorded(group=group, solver=solver)
    fits = _fits(sim, recording, batches, solver)
    solutions = [(fit.ab.solution, fit.cd.solution) for fit in fits]
    return [
        ([each.status for each in both], [each.certificate.objective for each in both])
        for both in solutions
    ]


def _path_whole_and_split(group: Group) -> list[list[tuple[list[str], list[float]]]]:
    modes = ("never", "always") if group.size > 1 else ("never",)
    return [_path_in_ranks(group, ADMMMultiGPUSolver(column_blocks=mode)) for mode in modes]  # type: ignore[arg-type]


def test_two_processes_follow_the_path_of_one() -> None:
    (expected,) = _path_whole_and_split(Group.single())
    for rank in run_ranks(2, _path_whole_and_split):
        for found in rank:
            for (statuses, objectives), (_, theirs) in zip(found, expected, strict=True):
                assert statuses == ["optimal", "optimal"]
                assert objectives[0] == pytest.approx(theirs[0], rel=1e-9)
                # C, D are fitted on equilibria, which are solved to a tolerance of their own.
                assert objectives[1] == pytest.approx(theirs[1], rel=1e-6)


def test_a_grid_means_the_same_in_every_unit() -> None:
    _, recording, _ = _recorded()
    grid = PathGrid(points=4, smallest=1e-2)
    relative = grid.values(recording, "relative")
    assert relative == pytest.approx((10**-0.5, 0.1, 10**-1.5, 0.01))
    largest = float(recording.statistics.cross["Z"].abs().max())
    assert grid.values(recording, "absolute") == pytest.approx([largest * r for r in relative])
    per_sample = [largest * r / recording.statistics.count for r in relative]
    assert grid.values(recording, "per_sample") == pytest.approx(per_sample)


def test_impossible_paths_are_refused() -> None:
    sim, recording, batches = _recorded()
    with pytest.raises(ArgumentError, match=r"points=0 must be >= 1, smallest=2 in \(0, 1\)"):
        PathGrid(points=0, smallest=2)
    path = fit_path(
        sim,
        recording,
        (),
        dataloader=batches,
        solver=ActiveSetSolver(),
        options=sim.options,
        callbacks=SimCallbacks(),
    )
    with pytest.raises(ArgumentError, match="at least one penalty"):
        next(path)
