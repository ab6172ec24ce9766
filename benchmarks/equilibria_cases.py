"""The cases and the contestants of ``benchmarks.equilibria``."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from idl_cli.equilibrium.activations import get_activation
from idl_cli.equilibrium.gradient.implicit_gradient import equilibrium
from idl_cli.equilibrium.operators import (
    ConvolutionLayout,
    ConvolutionOperator,
    DenseOperator,
    Operator,
    SparseOperator,
    SparsePattern,
    maps_of,
    rows_of,
)
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings
from idl_cli.equilibrium.statistics import SolveStatistics
from idl_cli.equilibrium.step_graphs import StepGraphs
from idl_cli.models.implicit import ImplicitModel

TOL, MAX_ITER = 1e-5, 3000
_CHANNELS, _PIXELS = 64, 32
_LONG = 0.5  # seconds
_TOLERANCES = 6  # tried of a rival: TOL to TOL/300

Solve = Callable[[], tuple[Tensor, Tensor]]
"""Returns x and the gradient of b."""


@dataclass(frozen=True)
class Case:
    """A by its parameter, b and the gradient of the loss.

    Attributes:
        parameter: A (n, n), or a kernel.
        offset: b (m, n).
        gradient: ∂loss/∂x (m, n).
        operator: A as idl has it, of the parameter.
        product: A x of the parameter and x (m, n), as one writes it by hand.
    """

    parameter: Tensor
    offset: Tensor
    gradient: Tensor
    operator: Callable[[Tensor], Operator] = DenseOperator
    product: Callable[[Tensor, Tensor], Tensor] = lambda A, x: functional.linear(x, A)

    def residual(self, x: Tensor) -> float:
        """Largest ‖f(x) − x‖∞ / ‖f(x)‖∞."""
        image = torch.relu(self.operator(self.parameter).apply(x, self.offset))
        return float(((image - x).abs().amax(1) / image.abs().amax(1)).max())

    def adjoint_residual(self, x: Tensor, v: Tensor) -> float:
        """Largest ‖d(g + Aᵀv) − v‖∞ / max(‖g‖∞, ‖v‖∞)."""
        image = self.operator(self.parameter).apply_transpose(v, self.gradient).mul(x > 0)
        scale = torch.maximum(self.gradient.abs().amax(1), v.abs().amax(1))
        return float(((image - v).abs().amax(1) / scale).max())


def make_case(spectrum: str, states: int, samples: int, device: str = "cpu") -> Case:
    """Return a case whose numbers depend on its name and sizes alone."""
    generator = torch.Generator().manual_seed(states + samples)
    offset, gradient = (torch.randn(samples, states, generator=generator) for _ in range(2))
    if spectrum == "trained":
        matrix, offset = _trained(states, samples)
    else:
        matrix = _matrix(spectrum, states, generator)
    return Case(matrix.to(device), offset.to(device), gradient.to(device))


def _matrix(spectrum: str, states: int, generator: torch.Generator) -> Tensor:
    matrix = torch.rand(states, states, generator=generator)
    kind, _, number = spectrum.rpartition(" ")
    if spectrum == "easy":
        matrix = 2 * matrix - 1
        return matrix * (0.95 / matrix.abs().sum(dim=1, keepdim=True))
    if kind.startswith("blocks"):
        block = torch.arange(states) * int(number) // states
        matrix = torch.where(block[:, None] == block, matrix, 1e-3 * matrix / states)
    elif spectrum == "sparse":
        matrix *= torch.rand(states, states, generator=generator) < max(0.03, 3 / states)
    elif spectrum == "tridiagonal":
        matrix = torch.ones(states, states).triu(-1).tril(1).fill_diagonal_(0)
    if kind == "hard" and states > 1000:  # of a dense positive matrix the power iteration is exact
        vector = torch.ones(states)
        for _ in range(20):
            image = matrix @ vector
            radius = float(image.norm() / vector.norm())
            vector = image / image.norm()
    else:
        radius = float(torch.linalg.eigvals(matrix.double()).abs().max())
    return matrix * ((float(number) if kind == "hard" else 0.99) / radius)


def _trained(states: int, samples: int) -> tuple[Tensor, Tensor]:
    """Return A and b at the end of a training on scikit-learn's digits at κ = 0.99."""
    from sklearn.datasets import load_digits

    found = load_digits()
    inputs = torch.from_numpy(found.data).float() / 16 - 0.3
    labels = torch.from_numpy(found.target).long()
    torch.manual_seed(0)
    model = ImplicitModel(64, 10, states, kappa=0.99)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(200):
        batch = torch.randint(len(inputs), (64,))
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs[batch]), labels[batch]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        model.constrain_()
    drawn = torch.randint(len(inputs), (samples,))
    with torch.no_grad():
        return model.A.clone(), functional.linear(inputs[drawn], model.B, model.state_bias)


def sparse_case(states: int, samples: int, share: float) -> Case:
    """Return a case of few non-zeros, easy, which the others multiply as a dense matrix."""
    case = make_case("easy", states, samples)
    generator = torch.Generator().manual_seed(0)
    matrix = case.parameter * (torch.rand(states, states, generator=generator) < share)
    matrix *= 0.95 / matrix.abs().sum(dim=1, keepdim=True).clamp(min=1e-9)
    pattern = SparsePattern.of(matrix)
    return Case(
        matrix, case.offset, case.gradient, lambda A: SparseOperator(pattern.values(A), pattern)
    )


def convolution_case(samples: int, norm: float) -> Case:
    """Return a convolution of positive kernels with ‖A‖∞ = norm, 64 channels on 32 x 32 pixels."""
    generator = torch.Generator().manual_seed(0)
    kernel = torch.rand(_CHANNELS, _CHANNELS, 3, 3, generator=generator)
    kernel *= norm / kernel.sum(dim=(1, 2, 3), keepdim=True)
    layout = ConvolutionLayout(_CHANNELS, _PIXELS, _PIXELS, padding=1)
    image = (_PIXELS, _PIXELS, _CHANNELS)
    size = _CHANNELS * _PIXELS**2
    offset, gradient = (torch.randn(samples, size, generator=generator) for _ in range(2))
    return Case(
        kernel,
        offset,
        gradient,
        lambda k: ConvolutionOperator(k, layout),
        lambda k, x: rows_of(functional.conv2d(maps_of(x, image), k, padding=1)),
    )


def idl(
    case: Case, method: str, counts: SolveStatistics, graphs: StepGraphs | None = None
) -> Solve:
    """Return idl's solve by this method."""
    forward = FixedPointSettings(method, max_iter=MAX_ITER, tol=TOL)  # type: ignore[arg-type]
    backward = AdjointSettings(method, max_iter=MAX_ITER, tol=TOL)  # type: ignore[arg-type]
    relu = get_activation("relu")

    def solve() -> tuple[Tensor, Tensor]:
        parameter = case.parameter.detach().requires_grad_()
        offset = case.offset.detach().requires_grad_()
        x = equilibrium(
            case.operator(parameter),
            offset,
            relu,
            forward=forward,
            backward=backward,
            statistics=counts,
            graphs=graphs,
        )
        _, v = torch.autograd.grad(x, (parameter, offset), case.gradient)
        return x.detach(), v

    return solve


def fitted(case: Case, contestant: Callable[[float], Solve]) -> Solve:
    """Return a contestant at the largest tolerance at which it achieves TOL, both ways.

    Tolerances mean something else to each, so that equal ones are no equal terms. They are tried
    from TOL on, each a third of the one before, until one takes long; if none will do, it is TOL,
    and the rival is timed at less than is asked of it.

    Args:
        case: what is solved.
        contestant: returns the solve at a tolerance.
    """
    for power in range(_TOLERANCES):
        started = time.perf_counter()
        solve = contestant(TOL / 10 ** (power / 2))
        x, v = solve()
        seconds = time.perf_counter() - started
        if case.residual(x) <= TOL and case.adjoint_residual(x, v) <= TOL:
            return solve
        if seconds > _LONG:
            break
    return contestant(TOL)


def rivals(case: Case) -> dict[str, Callable[[float], Solve]]:
    """Return what solves a case with torch to a tolerance, of all packages that are installed."""
    found: dict[str, Callable[[float], Solve]] = {}
    if case.operator is DenseOperator:
        found["torchidl"] = partial(torchidl, case)
    for name, solver in (("picard", "fixed_point_iter"), ("anderson", "anderson")):
        found[f"torchdeq {name}"] = partial(torchdeq, case, solver)
    if find_spec("silva_networks"):
        # Its Anderson steps took two to twenty times as long as these where all were tried.
        for solver in ("picard", "gmres"):
            found[f"silva {solver}"] = partial(silva, case, solver)
    return found


def torchidl(case: Case, tol: float = TOL) -> Solve:
    """Return torchidl's solve, of a matrix, to ``tol`` times the size of b, and of g."""
    from torchidl.implicit_function import ImplicitFunction

    class Function(torch.autograd.Function):
        """The parts of theirs with A alone, without B and U; columns are its samples."""

        @staticmethod
        def forward(ctx: Any, A: Tensor, Z: Tensor) -> Tensor:
            scale = 10 * float(Z.abs().max())
            X: Tensor
            X, _, _ = ImplicitFunction.inn_pred(A, Z, torch.zeros_like(Z), 300, tol * scale)
            ctx.save_for_backward(A, Z, X)
            return X

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
            A, Z, X = ctx.saved_tensors
            slopes = ImplicitFunction.dphi(A @ X + Z)
            G = slopes * gradients[0]
            V, _, _ = ImplicitFunction.inn_pred_grad(
                A.T, G, slopes, 300, tol * float(G.abs().max())
            )
            return V @ X.T, V

    def solve() -> tuple[Tensor, Tensor]:
        parameter = case.parameter.detach().requires_grad_()
        offset = case.offset.detach().requires_grad_()
        X = Function.apply(parameter, offset.t())  # type: ignore[no-untyped-call]
        _, v = torch.autograd.grad(X, (parameter, offset), case.gradient.t())
        return X.detach().t(), v

    return solve


def torchdeq_solver(solver: str, tol: float) -> Callable[..., Any]:
    """Return torchdeq's solver of x = f(x), both ways to its relative norm ``tol``."""
    import torchdeq

    deq: nn.Module = torchdeq.get_deq(
        f_solver=solver,
        b_solver=solver,
        f_tol=tol,
        b_tol=tol,
        f_stop_mode="rel",
        b_stop_mode="rel",
        f_max_iter=MAX_ITER,
        b_max_iter=MAX_ITER,
        ift=True,
    )
    return deq.train()


def torchdeq(case: Case, solver: str, tol: float = TOL) -> Solve:
    """Return torchdeq's solve by this solver, to its relative norm ``tol``."""
    deq = torchdeq_solver(solver, tol)

    def solve() -> tuple[Tensor, Tensor]:
        parameter = case.parameter.detach().requires_grad_()
        offset = case.offset.detach().requires_grad_()
        found, _ = deq(
            lambda x: torch.relu(case.product(parameter, x) + offset), torch.zeros_like(offset)
        )
        _, v = torch.autograd.grad(found[-1], (parameter, offset), case.gradient)
        return found[-1].detach(), v

    return solve


def silva(case: Case, solver: str, tol: float = TOL) -> Solve:
    """Return the solve of silva-networks by this solver, both ways, to its relative norm ``tol``.

    GMRES is for the adjoint alone; x is then found by its plain steps.
    """
    from silva_networks.solvers import SolverConfig, solve_equilibrium

    settings = SolverConfig(
        solver="picard" if solver == "gmres" else solver,
        max_iter=MAX_ITER,
        tol=tol,
        stop_mode="relative",
        anderson_batch_dims=1,
        track_residuals=False,
        backward_mode="implicit",
        backward_solver=solver,
        # GMRES keeps, and goes through, as many vectors of all samples together.
        backward_max_iter=200 if solver == "gmres" else MAX_ITER,
        backward_tol=tol,
        backward_stop_mode="relative",
    )

    def solve() -> tuple[Tensor, Tensor]:
        parameter = case.parameter.detach().requires_grad_()
        offset = case.offset.detach().requires_grad_()
        found = solve_equilibrium(
            lambda x: torch.relu(case.product(parameter, x) + offset),
            torch.zeros_like(offset),
            settings,
            tensors=(parameter, offset),
        )
        _, v = torch.autograd.grad(found.z, (parameter, offset), case.gradient)
        return found.z.detach(), v

    return solve
