"""A whole training shared by processes: the model of one process, kept on the way and continued."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from idl_cli.distributed.group import Group
from idl_cli.errors import IgnoredOptionWarning
from idl_cli.sim.fit.callbacks import SimCallbacks, Stage
from idl_cli.sim.regression.checkpointing import Checkpointing
from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.solve import Solution, solve
from idl_cli.sim.sim import SIM
from idl_cli.sim.solvers import ADMMMultiGPUSolver, ADMMSolver, BaseSolver
from tests.sim.problem_bank import planted
from tests.sim.ranks import run_ranks

pytestmark = pytest.mark.slow

TOL = 1e-9


def _teacher() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 4), nn.ReLU(), nn.Linear(4, 3)
    ).double()


def _batches() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(101, 6, generator=generator, dtype=torch.float64)
    return [*inputs.split(40), inputs[:1]]  # the last batches are short: one sample, for two ranks


class _Counts(SimCallbacks):
    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_samples(self, name: str, count: int) -> None:
        self.seen.append(count)


@dataclass(frozen=True)
class Trained:
    A: Tensor
    C: Tensor
    objectives: tuple[float, float]
    report: dict[str, object]
    seen: list[int]


def _train(group: Group, solver: BaseSolver, samples: int | None = None) -> Trained:
    counts = _Counts()
    sim = SIM(
        lambda_z=1e-3, lambda_y=1e-4, tol=TOL, samples=samples, dtype=torch.float64, group=group
    )
    model = sim.train(model=_teacher(), dataloader=_batches(), solver=solver, callbacks=counts)
    report = sim.report
    stages = [report[stage] for stage in ("ab", "cd")]
    objectives = [float(stage["objective"]) for stage in stages]  # type: ignore[index]
    return Trained(
        model.A.detach().clone(),
        model.C.detach().clone(),
        (objectives[0], objectives[1]),
        report,
        counts.seen,
    )


@pytest.mark.parametrize(
    ("column_blocks", "samples"), [("auto", None), ("auto", 63), ("always", None)]
)
def test_two_processes_train_the_model_of_one(column_blocks: str, samples: int | None) -> None:
    alone = _train(Group.single(), ADMMSolver(), samples)
    solver = ADMMMultiGPUSolver(column_blocks=column_blocks, warm_iterations=100)  # type: ignore[arg-type]
    first, second = run_ranks(2, _train, solver, samples)
    assert torch.equal(first.A, second.A)
    assert torch.equal(first.C, second.C)
    assert first.seen == alone.seen  # progress counts the samples of all processes
    for ours, theirs in zip(first.objectives, alone.objectives, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-8)
    torch.testing.assert_close(first.A, alone.A, rtol=1e-4, atol=1e-5)
    for name in ("samples", "unconverged", "rescaled"):
        assert first.report[name] == alone.report[name]
    assert first.report["state_fit"] == pytest.approx(alone.report["state_fit"], rel=1e-4)
    for stage in ("ab", "cd"):
        assert first.report[stage]["status"] in ("optimal", "at_precision")  # type: ignore[index]


# -- kept on the way -------------------------------------------------------------------------------


class _Keeper:
    """Keeps every state it is given."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []

    def __call__(self, state: Mapping[str, Tensor]) -> None:
        self.states.append({name: value.clone() for name, value in state.items()})


def _hard() -> RowRegression:
    return planted("hard", 50, rows=40, samples=12, l1=1e-4, radius=0.5).regression


def _solve_kept(
    group: Group, solver: BaseSolver, kept: Mapping[str, Tensor] | None, max_time: float | None
) -> tuple[Solution, list[dict[str, Tensor]]]:
    keeper = _Keeper()
    checkpointing = Checkpointing(write=keeper, every=0.0, restored=kept)
    solution = solve(
        _hard(),
        solver,
        tol=TOL,
        max_time=max_time,
        group=group,
        checkpointing=checkpointing,
        warn=False,
    )
    return solution, keeper.states


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_kept_iterate_is_continued_by_any_number_of_processes(ranks: int) -> None:
    whole, states = _solve_kept(Group.single(), ADMMSolver(warm_iterations=10), None, None)
    assert len(states) >= 3
    middle = states[len(states) // 2]
    solver = ADMMMultiGPUSolver(warm_iterations=10)
    for solution, _ in run_ranks(ranks, _solve_kept, solver, middle, None):
        assert solution.status == whole.status == "optimal"
        ours, theirs = solution.certificate.objective, whole.certificate.objective
        assert ours == pytest.approx(theirs, rel=1e-9)
        assert solution.history[0].iterations == int(middle["numbers"][0]) > 0
        assert solution.history[0].relative_gap < 0.9  # not from zero


def test_what_two_processes_keep_one_continues() -> None:
    (first, states), (_, others) = run_ranks(
        2, _solve_kept, ADMMMultiGPUSolver(warm_iterations=10), None, None
    )
    assert len(states) >= 2
    assert all(
        torch.equal(a["weights"], b["weights"]) for a, b in zip(states, others, strict=False)
    )
    solution, _ = _solve_kept(Group.single(), ADMMSolver(warm_iterations=10), states[1], None)
    assert solution.status == "optimal"
    assert solution.certificate.objective == pytest.approx(first.certificate.objective, rel=1e-9)


def test_an_iterate_of_another_problem_is_not_continued() -> None:
    _, states = _solve_kept(Group.single(), ADMMSolver(), None, None)
    other = planted("hard", 51, rows=40, samples=12, l1=1e-4, radius=0.5).regression
    with pytest.warns(IgnoredOptionWarning, match="another problem"):
        solution = solve(
            other, ADMMSolver(), tol=TOL, checkpointing=Checkpointing(restored=states[-1])
        )
    assert solution.status == "optimal"


class _Files(SimCallbacks):
    """Keeps iterates in a folder, the way a run directory does."""

    iterate_seconds = 0.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_iterate(self, stage: Stage, state: Mapping[str, Tensor]) -> None:
        partial = self.folder / f"{stage}.{os.getpid()}.partial"
        save_file(dict(state), partial)
        partial.replace(self.folder / f"{stage}.safetensors")

    def restored_iterate(self, stage: Stage) -> Mapping[str, Tensor] | None:
        path = self.folder / f"{stage}.safetensors"
        return load_file(path) if path.is_file() else None


def _train_kept(group: Group, folder: Path) -> tuple[tuple[float, float], int]:
    sim = SIM(lambda_z=1e-6, lambda_y=1e-7, tol=TOL, dtype=torch.float64, group=group)
    solver = ADMMMultiGPUSolver(warm_iterations=1, check_every=1)
    sim.train(model=_teacher(), dataloader=_batches(), solver=solver, callbacks=_Files(folder))
    stages = [sim.report[stage] for stage in ("ab", "cd")]
    assert all(stage["status"] in ("optimal", "at_precision") for stage in stages)  # type: ignore[index]
    first, second = (float(stage["objective"]) for stage in stages)  # type: ignore[index]
    return (first, second), int(stages[0]["iterations"])  # type: ignore[index]


KILLED = """
import os, signal, sys
from pathlib import Path
from idl_cli.distributed.group import Group
from tests.sim.fit import test_shared_training as here

class Killing(here._Files):
    def on_iterate(self, stage, state):
        super().on_iterate(stage, state)
        os.kill(os.getpid(), signal.SIGKILL)

here._Files = Killing
here._train_kept(Group.single(), Path(sys.argv[1]))
"""


def test_killed_in_the_middle_of_ab_and_continued_by_two(tmp_path: Path) -> None:
    reference = tmp_path / "reference"
    reference.mkdir()
    whole, _ = _train_kept(Group.single(), reference)
    killed = tmp_path / "killed"
    killed.mkdir()
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(killed)],
        cwd=Path(__file__).parents[3],
        timeout=100,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL
    assert [path.name for path in killed.iterdir()] == ["ab.safetensors"]
    for objectives, _ in run_ranks(2, _train_kept, killed):
        assert objectives == pytest.approx(whole, rel=1e-8)
