"""The self-test of ``idl env --check``: each promise tried on something small."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from idl_cli.errors import IdlError
from idl_cli.models.implicit import ImplicitModel

_TOLERANCE: Final = 1e-10  # of equilibria in float64, far above round-off and below any mistake


@dataclass(frozen=True)
class Outcome:
    """How one check ended.

    Attributes:
        title: what was checked.
        seconds: how long it took.
        error: why it failed, None when it did not.
    """

    title: str
    seconds: float
    error: str | None


class CheckError(IdlError):
    """A check computed something else than it should."""


def run_checks() -> Iterator[Outcome]:
    """Run every check, also after one has failed."""
    checks: list[tuple[str, Callable[[], None]]] = [
        ("the configuration of idl train composes", _composition),
        ("an equilibrium solves its equation", _equilibrium),
        ("the implicit gradient is that of finite differences", _gradient),
        ("a sparse row regression is solved to its certificate", _row_regression),
        ("a model saved in a run is read back to the bit", _run_directory),
    ]
    for index in range(torch.cuda.device_count()):
        checks.append((f"cuda:{index} finds the equilibrium of the CPU", _on_device(index)))
    for title, check in checks:
        started = time.perf_counter()
        error = None
        try:
            check()
        except Exception as reason:  # whatever breaks is what this command is there to report
            error = f"{type(reason).__name__}: {reason}"
        yield Outcome(title, time.perf_counter() - started, error)


def _model() -> ImplicitModel:
    torch.manual_seed(0)
    solve = {"tol": 1e-12, "max_iter": 1000}
    model = ImplicitModel(
        3, 2, 8, kappa=0.9, bias=False, activation="tanh", forward=solve, backward=solve
    )
    return model.to(torch.float64)


def _inputs() -> torch.Tensor:
    return torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _composition() -> None:
    from idl_cli.commands import configured
    from idl_cli.requests.preflight import Request, preflight

    commands = configured()
    preflight(Request(commands["train"], commands, overrides=(), root="train"))


def _equilibrium() -> None:
    model, inputs = _model(), _inputs()
    with torch.no_grad():
        state = model.equilibrium(inputs)
        again = torch.tanh(state @ model.A.T + inputs @ model.B.T)
    _require_close(state, again, "‖x - φ(Ax + Bu)‖∞")


def _gradient() -> None:
    model, inputs = _model(), _inputs().requires_grad_()
    if not torch.autograd.gradcheck(model, (inputs,), raise_exception=False):
        raise CheckError("the gradient of the prediction disagrees with finite differences")


def _row_regression() -> None:
    from idl_cli.sim.regression.problem import RowBudget, RowRegression
    from idl_cli.sim.regression.solve import solve
    from idl_cli.sim.solvers import ADMMSolver

    random = torch.Generator().manual_seed(0)
    features = torch.randn(40, 12, dtype=torch.float64, generator=random)
    targets = torch.randn(40, 5, dtype=torch.float64, generator=random)
    problem = RowRegression(
        gram=features.T @ features,
        cross=targets.T @ features,
        target_square=targets.square().sum(dim=0),
        l1=1.0,
        budget=RowBudget(8, 0.2),  # small enough to bind
    )
    solution = solve(problem, ADMMSolver(), warn=False)
    certificate = solution.certificate
    gap = certificate.relative_gap
    if gap is None or gap > 1e-6 or not certificate.feasible:
        raise CheckError(f"relative gap {gap}, feasible {certificate.feasible}")


def _run_directory() -> None:
    from idl_cli.run import RunDirectory, load_model

    model, inputs = _model(), _inputs()
    with tempfile.TemporaryDirectory() as folder:
        with RunDirectory(Path(folder) / "run", command="check", seed=0) as directory:
            directory.save_model(
                model,
                name="implicit",
                arguments=model.constructor_arguments(),
                preprocessing=None,
                task=None,
            )
            directory.finish("completed", {})
        loaded = load_model(directory.path)
        with torch.no_grad():
            if not torch.equal(loaded(inputs), model(inputs)):
                raise CheckError("the model read back predicts something else")


def _on_device(index: int) -> Callable[[], None]:
    def check() -> None:
        model, inputs = _model(), _inputs()
        with torch.no_grad():
            here = model.equilibrium(inputs)
            there = model.to(f"cuda:{index}").equilibrium(inputs.to(f"cuda:{index}"))
        _require_close(here, there.cpu(), "the difference of the two states")

    return check


def _require_close(first: torch.Tensor, second: torch.Tensor, what: str) -> None:
    difference = (first - second).abs().max().item()
    if not difference <= _TOLERANCE:
        raise CheckError(f"{what} is {difference:.2g}, above {_TOLERANCE:g}")
