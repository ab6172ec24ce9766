"""Equilibrium and gradient beside torchidl 0.0.4 and torchdeq 0.1.0, on easy and on hard spectra.

One forward and backward of x = relu(Ax + b), b and the loss's gradient normal, float32, at ‖r‖∞ ≤
1e-5 ‖x‖∞ forward and ‖r‖∞ ≤ 1e-5 ‖g‖∞ backward (torchidl: the same as an absolute number, and its
300 iterations at most; torchdeq: its relative norm, Picard and Anderson). Spectra of A:

- easy: entries of both signs, ‖A‖∞ = 0.95;
- hard: A ≥ 0 with ρ(|A|) = 0.99 or 0.999: one slow mode; blocks of them: several; sparse: 3 % of
  the entries; tridiagonal: a continuum of slow modes.

All contestants take turns in one process; medians of processor time where one thread is used, else
of wall time. Told beside: the largest residual and error of the gradient that each achieved, and
the share of idl's time that its own products with A would take alone.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from idl_cli.equilibrium.activations import get_activation
from idl_cli.equilibrium.implicit_gradient import equilibrium
from idl_cli.equilibrium.operators import DenseOperator
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings
from idl_cli.equilibrium.statistics import SolveStatistics

TOL, MAX_ITER = 1e-5, 3000
SPECTRA = (
    "easy",
    "hard .99",
    "hard .999",
    "blocks of 3",
    "blocks of 8",
    "sparse",
    "tridiagonal",
)
SIZES = ((20, 64), (100, 1), (100, 64), (100, 1024), (500, 256), (1000, 64))
SECONDS = 1.0  # each contestant and case; once where it takes longer

Solve = Callable[[], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Case:
    """A, b, the gradient of the loss, and the answers in float64."""

    matrix: Tensor
    offset: Tensor
    gradient: Tensor

    def residual(self, x: Tensor) -> float:
        """Largest ‖f(x) − x‖∞ / ‖f(x)‖∞."""
        image = torch.relu(torch.addmm(self.offset, x, self.matrix.t()))
        return float(((image - x).abs().amax(1) / image.abs().amax(1)).max())

    def adjoint_residual(self, x: Tensor, v: Tensor) -> float:
        """Largest ‖d(g + Aᵀv) − v‖∞ / max(‖g‖∞, ‖v‖∞)."""
        image = torch.addmm(self.gradient, v, self.matrix).mul_(x > 0)
        scale = torch.maximum(self.gradient.abs().amax(1), v.abs().amax(1))
        return float(((image - v).abs().amax(1) / scale).max())


def make_case(spectrum: str, states: int, samples: int, device: str = "cpu") -> Case:
    """Return a case whose numbers depend on its name and sizes alone."""
    generator = torch.Generator().manual_seed(states + samples)
    matrix = torch.rand(states, states, generator=generator)
    kind, _, number = spectrum.rpartition(" ")
    if spectrum == "easy":
        matrix = 2 * matrix - 1
        matrix *= 0.95 / matrix.abs().sum(dim=1, keepdim=True)
    elif kind.startswith("blocks"):
        block = torch.arange(states) * int(number) // states
        matrix = torch.where(block[:, None] == block, matrix, 1e-3 * matrix / states)
    elif spectrum == "sparse":
        matrix *= torch.rand(states, states, generator=generator) < max(0.03, 3 / states)
    elif spectrum == "tridiagonal":
        matrix = torch.ones(states, states).triu(-1).tril(1).fill_diagonal_(0)
    if spectrum != "easy":
        radius = float(torch.linalg.eigvals(matrix.double()).abs().max())
        matrix *= (float(number) if kind == "hard" else 0.99) / radius
    offset, gradient = (torch.randn(samples, states, generator=generator) for _ in range(2))
    return Case(matrix.to(device), offset.to(device), gradient.to(device))


def _idl(case: Case, method: str, counts: SolveStatistics) -> Solve:
    forward = FixedPointSettings(method, max_iter=MAX_ITER, tol=TOL)  # type: ignore[arg-type]
    backward = AdjointSettings(method, max_iter=MAX_ITER, tol=TOL)  # type: ignore[arg-type]
    relu = get_activation("relu")

    def solve() -> tuple[Tensor, Tensor]:
        matrix, offset = case.matrix.requires_grad_(), case.offset.detach().requires_grad_()
        x = equilibrium(
            DenseOperator(matrix),
            offset,
            relu,
            forward=forward,
            backward=backward,
            statistics=counts,
        )
        _, v = torch.autograd.grad(x, (matrix, offset), case.gradient)
        return x.detach(), v

    return solve


def _torchidl(case: Case) -> Solve:
    from torchidl.implicit_function import ImplicitFunction

    def solve() -> tuple[Tensor, Tensor]:
        # Columns are its samples. Of its Function the parts with A alone, without B and U.
        A, Z = case.matrix.detach(), case.offset.t()
        with torch.no_grad():
            scale = 10 * float(Z.abs().max())
            X, _, _ = ImplicitFunction.inn_pred(A, Z, torch.zeros_like(Z), 300, TOL * scale)
            slopes = ImplicitFunction.dphi(A @ X + Z)
            G = slopes * case.gradient.t()
            V, _, _ = ImplicitFunction.inn_pred_grad(
                A.T, G, slopes, 300, TOL * float(G.abs().max())
            )
            V @ X.T
        return X.t(), V.t()

    return solve


def _torchdeq(case: Case, solver: str) -> Solve:
    import torchdeq

    deq = torchdeq.get_deq(
        f_solver=solver,
        b_solver=solver,
        f_tol=TOL,
        b_tol=TOL,
        f_stop_mode="rel",
        b_stop_mode="rel",
        f_max_iter=MAX_ITER,
        b_max_iter=MAX_ITER,
        ift=True,
    )
    deq.train()

    def solve() -> tuple[Tensor, Tensor]:
        matrix, offset = case.matrix.requires_grad_(), case.offset.detach().requires_grad_()
        found, _ = deq(
            lambda x: torch.relu(torch.addmm(offset, x, matrix.t())), torch.zeros_like(offset)
        )
        _, v = torch.autograd.grad(found[-1], (matrix, offset), case.gradient)
        return found[-1].detach(), v

    return solve


def _clock(case: Case) -> Callable[[], float]:
    if case.matrix.is_cuda:

        def finished() -> float:
            torch.cuda.synchronize()
            return time.perf_counter()

        return finished
    return time.process_time if torch.get_num_threads() == 1 else time.perf_counter


def measure(case: Case, seconds: float = SECONDS) -> dict[str, object]:
    """Measure all contestants, in turn; one that is far behind is measured less often."""
    counts = SolveStatistics(warn=False)
    contestants = {
        "idl": _idl(case, "auto", counts),
        "idl picard": _idl(case, "picard", SolveStatistics(warn=False)),
        "torchidl": _torchidl(case),
        "torchdeq picard": _torchdeq(case, "fixed_point_iter"),
        "torchdeq anderson": _torchdeq(case, "anderson"),
    }
    clock = _clock(case)
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    achieved = {}
    for name, solve in contestants.items():
        started = clock()
        x, v = solve()
        if clock() - started > seconds:
            taken[name].append(clock() - started)
        achieved[name] = (case.residual(x), case.adjoint_residual(x, v))
    while any(sum(each) < seconds for each in taken.values()):
        for name, solve in contestants.items():
            if sum(taken[name]) < seconds:
                started = clock()
                solve()
                taken[name].append(clock() - started)
    counts.reset()
    contestants["idl"]()
    figures = counts.summary()
    products = _products(case, figures["iterations_mean"] + figures["backward_iterations_mean"])
    milliseconds = {name: 1e3 * statistics.median(each) for name, each in taken.items()}
    return {
        "milliseconds": milliseconds,
        "achieved": achieved,
        "iterations": figures["iterations_mean"],
        "backward_iterations": figures["backward_iterations_mean"],
        "unconverged": figures["unconverged_share"] + figures["backward_unconverged_share"],
        "products_share": products / milliseconds["idl"],
        "to_torchidl": milliseconds["torchidl"] / milliseconds["idl"],
        "to_torchdeq": min(milliseconds["torchdeq picard"], milliseconds["torchdeq anderson"])
        / milliseconds["idl"],
    }


def _products(case: Case, count: float) -> float:
    """Milliseconds of so many products with A."""
    x, out, matrix = case.offset.detach(), torch.empty_like(case.offset), case.matrix.detach()
    clock = _clock(case)
    taken = []
    for _ in range(30):
        started = clock()
        for _ in range(10):
            torch.addmm(x, x, matrix.t(), out=out)
        taken.append(clock() - started)
    return 1e3 * statistics.median(taken) / 10 * count


def run(root: Path | None = None) -> dict[str, object]:
    """Measure and print.

    Args:
        root: not needed.

    Returns:
        The figures of each spectrum and size.
    """
    warnings.simplefilter("ignore")
    measure(make_case("hard .99", 20, 4), 0.0)  # what is imported on first use is no one's time
    rows = {}
    for states, samples in SIZES:
        for spectrum in SPECTRA:
            row = measure(make_case(spectrum, states, samples))
            rows[f"{spectrum}, n {states}, batch {samples}"] = row
            print(line(spectrum, states, samples, row), flush=True)
    return {"threads": torch.get_num_threads(), "tol": TOL, "rows": rows}


def line(spectrum: str, states: int, samples: int, row: dict[str, object]) -> str:
    """Return a row as it is printed."""
    milliseconds = row["milliseconds"]
    assert isinstance(milliseconds, dict), "made above"
    times = "  ".join(f"{name} {value:.2f}" for name, value in milliseconds.items())
    return (
        f"{spectrum:12} {states:5} {samples:5}  {times} ms  "
        f"{row['iterations']:.1f}+{row['backward_iterations']:.1f} iterations, "
        f"products {row['products_share']:.0%}, "
        f"{row['to_torchidl']:.1f}x torchidl, {row['to_torchdeq']:.1f}x torchdeq"
    )
