"""x = f(x) for a function of which nothing is known, differentiable in all that f holds.

With J = ∂f/∂x at the solution and g = ∂loss/∂x, the adjoint solves w = g + Jᵀw by vector-Jacobian
products, and the gradient of whatever f was computed from is that of f(x) for the cotangent w
(implicit function theorem; Bai, Kolter and Koltun, NeurIPS 2019, arXiv 1909.01377).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from idl_cli.equilibrium.fixed_point import solve_fixed_point
from idl_cli.equilibrium.gradient.approximate_adjoint import approximate_adjoint, report_error
from idl_cli.equilibrium.gradient.first_derivative_only import refuse_second_derivative
from idl_cli.equilibrium.iterations.secants import Secants
from idl_cli.equilibrium.residual import adjoint_scale
from idl_cli.equilibrium.result import FixedPointResult
from idl_cli.equilibrium.settings import APPROXIMATE, AdjointSettings, FixedPointSettings
from idl_cli.equilibrium.statistics import SolveStatistics
from idl_cli.errors import ShapeError

BatchMap = Callable[[Tensor], Tensor]

_REASON: Final = (
    "the fixed point of a function of which nothing is known has its first derivative only. For "
    "x = φ(Ax + b) idl_cli.ImplicitModel has all of them."
)


def fixed_point(
    f: BatchMap,
    x0: Tensor,
    *,
    forward: FixedPointSettings | None = None,
    backward: AdjointSettings | None = None,
    statistics: SolveStatistics | None = None,
) -> Tensor:
    """Solve x = f(x), each sample by itself, and let gradients flow to all that f was made of.

    Parameters and inputs of f need not be named: f is recorded once, at the solution. f must treat
    samples apart and be the same function at every call (no dropout drawn anew, no batch norm in
    training). The last solution as ``x0`` is a warm start.

    Args:
        f: from (samples, ...) to the same shape and dtype.
        x0: first iterates (samples, ...); no gradient flows to them.
        forward: how x is solved; by default Anderson's mixing to ‖f(x) − x‖∞ ≤ 1e-5 ‖x‖∞.
        backward: how w is solved, with ‖w − g − Jᵀw‖∞ ≤ tol ‖g‖∞; the
            inexact methods take some steps from w = 0, ``jacobian_free`` one: w = g; ``shine``
            none: it reads what the steps from ``x0`` to x have shown, and is w = g where there were
            none, as from a warm start that had converged.
        statistics: where the solves are counted; by default each that fails warns.

    Returns:
        x (samples, ...).

    Raises:
        ShapeError: ``x0`` has no dimension beside the samples, or f changes shape or dtype.
        ArgumentError: a second derivative is taken, or ``shine`` is asked for without a forward
            solve by Anderson's method.
    """
    if x0.dim() < 2:
        raise ShapeError(f"x0 has shape {tuple(x0.shape)}; expected (samples, ...).")
    backward = backward or AdjointSettings()
    counts = statistics or SolveStatistics()

    def flat(x: Tensor) -> Tensor:
        return _checked(f, x.view_as(x0)).flatten(1)

    started = time.perf_counter()
    secants = Secants() if backward.method == "shine" else None
    settings = forward or FixedPointSettings()
    found = solve_fixed_point(flat, x0.flatten(1), settings, secants=secants)
    counts.record_forward(found, time.perf_counter() - started)
    x = found.value.view_as(x0)
    if not torch.is_grad_enabled():
        return x
    at = x.detach().requires_grad_()
    image = _checked(f, at)
    if not image.requires_grad:
        return x

    def adjoint(gradient: Tensor) -> Tensor:
        g = gradient.flatten(1)

        def transposed(w: Tensor) -> Tensor:
            with torch.enable_grad():
                (pulled,) = torch.autograd.grad(
                    image, at, w.view_as(image), retain_graph=True, materialize_grads=True
                )
            return g + pulled.flatten(1)

        def solve() -> FixedPointResult:
            return solve_fixed_point(transposed, g, backward.fixed_point, scale=adjoint_scale(g))

        if backward.method in APPROXIMATE:
            if secants is None:
                w = approximate_adjoint(g, transposed, backward)
            else:
                w = secants.adjoint(g)
            report_error(counts, backward, w, lambda: solve().value)
            return w.view_as(gradient)
        started = time.perf_counter()
        solved = solve()
        counts.record_backward(solved, time.perf_counter() - started)
        return solved.value.view_as(gradient)

    y: Tensor = _Implicit.apply(image, adjoint)  # type: ignore[no-untyped-call]
    return y


def _checked(f: BatchMap, x: Tensor) -> Tensor:
    image = f(x)
    if image.shape != x.shape or image.dtype != x.dtype:
        raise ShapeError(
            f"f maps {tuple(x.shape)} {x.dtype} to {tuple(image.shape)} {image.dtype}; a fixed "
            "point needs f(x) in the shape and dtype of x."
        )
    return image


class _Implicit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, adjoint: BatchMap) -> Tensor:
        ctx.adjoint = adjoint
        ctx.save_for_backward(image)
        return image.view_as(image)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None]:
        again = torch.is_grad_enabled()
        with torch.no_grad():
            w = ctx.adjoint(gradients[0])
        if again:
            sources = (gradients[0], *ctx.saved_tensors)
            (w,) = refuse_second_derivative((w,), sources, _REASON)
        return w, None


def jacobian_penalty(f: BatchMap, x: Tensor, *, probes: int = 1) -> Tensor:
    """Return an unbiased estimate of ‖∂f/∂x‖²_F / n, mean over samples, to add to a loss.

    It keeps f a contraction where nothing else does (Bai, Koltun and Kolter, ICML 2021, arXiv
    2106.14342), by Hutchinson's estimator with normal probes.

    Args:
        f: from (samples, ...) to the same shape.
        x: where (samples, ...), such as the solution.
        probes: vector-Jacobian products, >= 1; the variance falls with their number.
    """
    at = x.detach().requires_grad_()
    image = _checked(f, at)
    total = x.new_zeros(())
    for _ in range(probes):
        (pulled,) = torch.autograd.grad(image, at, torch.randn_like(image), create_graph=True)
        total = total + pulled.square().mean()
    return total / probes


def spectral_radius(f: BatchMap, x: Tensor, *, iterations: int = 50) -> Tensor:
    """Return an estimate of the largest |eigenvalue| of ∂f/∂x of every sample (samples,).

    By power iteration with vector-Jacobian products: above 1 plain steps diverge, and close to 1
    they are slow. Of a complex pair it is a mean over the last half of the iterations.

    Args:
        f: from (samples, ...) to the same shape, each sample by itself.
        x: where (samples, ...).
        iterations: products, >= 2.
    """
    at = x.detach().requires_grad_()
    with torch.enable_grad():
        image = _checked(f, at)
    w = torch.ones_like(image).flatten(1)
    growth = []
    for _ in range(iterations):
        w = w / torch.linalg.vector_norm(w, dim=1, keepdim=True)
        (pulled,) = torch.autograd.grad(image, at, w.view_as(image), retain_graph=True)
        w = pulled.flatten(1)
        growth.append(torch.linalg.vector_norm(w, dim=1))
        # Of a nilpotent Jacobian nothing is left.
        w = torch.where(growth[-1][:, None] > 0, w, torch.ones_like(w))
    return torch.stack(growth[iterations // 2 :]).log().mean(dim=0).exp()
