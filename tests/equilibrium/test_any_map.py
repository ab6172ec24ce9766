"""A user's own function: its fixed point, its gradient and what it is told of."""

import pytest
import torch
from torch import Tensor, nn

from idl_cli import Equilibrium, fixed_point, jacobian_penalty, spectral_radius
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings
from idl_cli.equilibrium.statistics import SolveStatistics
from idl_cli.errors import ArgumentError, ConvergenceWarning, ShapeError
from idl_cli.models.implicit import ImplicitModel

TIGHT = {"forward": FixedPointSettings(tol=1e-12), "backward": AdjointSettings(tol=1e-12)}


def weights(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(6, 6, generator=generator, dtype=torch.float64) / 6
    return matrix.requires_grad_(), torch.randn(3, 6, generator=generator).double().requires_grad_()


@pytest.mark.parametrize("method", ["picard", "anderson", "auto"])
def test_the_gradient_is_that_of_the_equilibrium_in_all_that_f_holds(method: str) -> None:
    matrix, offset = weights()
    start = torch.zeros(3, 6).double()

    def solved(matrix: Tensor, offset: Tensor) -> Tensor:
        return fixed_point(
            lambda x: torch.tanh(x @ matrix.t() + offset),
            start,
            forward=FixedPointSettings(method, tol=1e-12),  # type: ignore[arg-type]
            backward=AdjointSettings(method, tol=1e-12),  # type: ignore[arg-type]
        )

    assert torch.autograd.gradcheck(solved, (matrix, offset), fast_mode=True)


def test_a_layer_of_a_cell_trains_and_keeps_the_shape_of_its_states() -> None:
    torch.manual_seed(0)

    class Cell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Conv2d(2, 2, 3, padding=1)
            with torch.no_grad():
                self.inner.weight.mul_(0.3)

        def forward(self, x: Tensor, u: Tensor) -> Tensor:
            return torch.tanh(self.inner(x) + u)

    layer = Equilibrium(Cell(), forward={"tol": 1e-12}, backward={"tol": 1e-12}).double()
    u = torch.randn(4, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    x = layer(torch.zeros_like(u), u)
    assert x.shape == u.shape
    torch.testing.assert_close(layer.cell(x, u), x, atol=1e-11, rtol=0)
    (x**2).sum().backward()  # type: ignore[no-untyped-call]
    found = layer.cell.inner.weight.grad
    # Unrolled far beyond convergence, autograd's own gradient is the same.
    y = torch.zeros_like(u)
    for _ in range(80):
        y = layer.cell(y, u.detach())
    (expected,) = torch.autograd.grad((y**2).sum(), layer.cell.inner.weight)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)
    counts = layer.solve_statistics.summary()
    assert counts["unconverged_share"] == counts["backward_unconverged_share"] == 0
    # From its own solution there is nothing left to do.
    layer.solve_statistics.reset()
    layer(x.detach(), u)
    assert layer.solve_statistics.summary()["iterations_max"] == 1


def test_a_solve_that_fails_says_so_forward_and_backward() -> None:
    offset = torch.ones(2, 3, requires_grad=True)
    few, little = FixedPointSettings(max_iter=3), AdjointSettings(max_iter=3)
    with pytest.warns(ConvergenceWarning, match="2 of 2 equilibria"):
        fixed_point(lambda x: (0.99 * x.roll(1, 1) + offset).cos(), torch.zeros(2, 3), forward=few)
    scale = torch.tensor([[0.99, 0.5, 0.1]])
    start = (1 / (1 - scale)).expand(2, 3)
    loss = fixed_point(lambda x: scale * x + offset, start, backward=little).square().sum()
    with pytest.warns(ConvergenceWarning, match="2 of 2 adjoint"):
        loss.backward()  # type: ignore[no-untyped-call]


def test_what_cannot_be_is_refused() -> None:
    matrix, offset = weights()
    start = torch.zeros(3, 6).double()
    with pytest.raises(ShapeError, match=r"\(3, 6\).*to \(3, 5\)"):
        fixed_point(lambda x: x[:, :5], start)
    with pytest.raises(ShapeError, match="float32"):
        fixed_point(lambda x: x.float(), start)
    with pytest.raises(ShapeError, match=r"expected \(samples, ...\)"):
        fixed_point(torch.cos, torch.zeros(3))
    x = fixed_point(lambda x: torch.tanh(x @ matrix.t() + offset), start, **TIGHT)
    (first,) = torch.autograd.grad(x.square().sum(), offset, create_graph=True)
    with pytest.raises(ArgumentError, match="first derivative only"):
        torch.autograd.grad(first.sum(), matrix)


def test_the_penalty_and_the_radius_are_those_of_the_jacobian() -> None:
    matrix, offset = weights()

    def f(x: Tensor) -> Tensor:
        return torch.tanh(x @ matrix.t() + offset)

    x = offset.detach()
    jacobians = [((1 - f(x)[i] ** 2)[:, None] * matrix).detach() for i in range(3)]
    torch.manual_seed(0)
    estimate = float(jacobian_penalty(f, x, probes=4000).detach())
    exact = sum(float(each.square().sum()) for each in jacobians) / 18
    assert estimate == pytest.approx(exact, rel=0.05)  # 4000 probes: 1/√4000 times √2 or less
    radius = spectral_radius(f, x, iterations=400)
    for found, jacobian in zip(radius, jacobians, strict=True):
        largest = float(torch.linalg.eigvals(jacobian).abs().max())
        assert float(found) == pytest.approx(largest, rel=0.02)
    (gradient,) = torch.autograd.grad(jacobian_penalty(f, x), matrix)
    assert bool(gradient.any())


def test_shine_is_exact_where_the_window_spans_all_states() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    matrix *= 0.9 / torch.linalg.matrix_norm(matrix, 2)
    b, g = (torch.randn(6, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    # After four steps a linear equation of four states is solved, and its matrix known.
    forward = FixedPointSettings("anderson", window=4, regularization=0.0, tol=1e-9)
    offset = b.clone().requires_grad_()
    x = fixed_point(
        lambda x: x @ matrix.t() + offset,
        torch.zeros_like(b),
        forward=forward,
        backward=AdjointSettings("shine"),
    )
    (found,) = torch.autograd.grad(x, offset, g)
    exact = torch.linalg.solve(torch.eye(4).double() - matrix.t(), g[:, :, None]).squeeze(2)
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-5)  # a step is rounding at the end


def test_shine_is_nearer_than_the_jacobian_free_gradient_and_its_error_is_told() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(20, 20, generator=generator, dtype=torch.float64)
    weight *= 0.9 / torch.linalg.matrix_norm(weight, 2)
    b, g = (torch.randn(40, 20, generator=generator, dtype=torch.float64) for _ in range(2))
    gradients, errors = {}, {}
    for method in ("auto", "shine", "jacobian_free"):
        offset, counts = b.clone().requires_grad_(), SolveStatistics()
        x = fixed_point(
            lambda x, offset=offset: torch.tanh(x @ weight.t() + offset),
            torch.zeros_like(b),
            forward=FixedPointSettings("anderson", window=12),
            backward=AdjointSettings(method, tol=1e-10, report_error=True),
            statistics=counts,
        )
        (gradients[method],) = torch.autograd.grad(x, offset, g)
        errors[method] = counts.summary().get("gradient_error_max", 0.0)

    def off(method: str) -> float:
        return float((gradients[method] - gradients["auto"]).norm() / gradients["auto"].norm())

    assert 0 < off("shine") < 0.7 * off("jacobian_free")
    assert 0 < errors["shine"] < 1
    assert errors["auto"] == 0


def test_shine_without_anderson_is_refused_with_what_to_do() -> None:
    x0, shine = torch.zeros(2, 3), AdjointSettings("shine")
    with pytest.raises(ArgumentError, match=r"set forward\.method to anderson"):
        fixed_point(torch.tanh, x0, forward=FixedPointSettings("picard"), backward=shine)
    with pytest.raises(ArgumentError, match="as model=deq has one"):
        ImplicitModel(3, 2, 4, backward=shine)
    with pytest.raises(ArgumentError, match=r"set forward\.method to anderson"):
        Equilibrium(nn.Identity(), forward={"method": "picard"}, backward=shine)


def test_shine_reads_every_sample_s_own_steps_whenever_it_converged() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(8, 8, generator=generator, dtype=torch.float64)
    weight *= 0.9 / torch.linalg.matrix_norm(weight, 2)
    size = torch.tensor([0.0, 1e-3, 1.0, 30.0]).double()[:, None]  # after 1 to many steps
    b, g = (torch.randn(4, 8, generator=generator, dtype=torch.float64) for _ in range(2))

    def gradient(rows: slice) -> Tensor:
        offset = (size * b)[rows].requires_grad_()
        x = fixed_point(
            lambda x: torch.tanh(x @ weight.t() + offset),
            torch.zeros_like(offset),
            backward=AdjointSettings("shine"),
        )
        (found,) = torch.autograd.grad(x, offset, g[rows])
        return found

    alone = torch.cat([gradient(slice(i, i + 1)) for i in range(4)])
    torch.testing.assert_close(gradient(slice(0, 4)), alone, rtol=1e-9, atol=1e-9)
