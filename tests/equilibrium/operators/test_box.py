from __future__ import annotations

import pytest
import torch
from torch import Tensor

from idl_cli.equilibrium.activations import get_activation
from idl_cli.equilibrium.constraints import project_rows_l1
from idl_cli.equilibrium.gradient.implicit_gradient import equilibrium
from idl_cli.equilibrium.operators import (
    BlockOperator,
    ConvolutionLayout,
    ConvolutionOperator,
    DenseOperator,
    Operator,
    TransposedOperator,
)
from idl_cli.equilibrium.operators.box import BoxOperator
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings

SOLVING = {"forward": FixedPointSettings(tol=1e-13), "backward": AdjointSettings(tol=1e-13)}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def dense(A: Tensor) -> Tensor:
    """M, formed."""
    same, other = A.clamp(min=0), A.clamp(max=0)
    return torch.cat((torch.cat((same, other), 1), torch.cat((other, same), 1)))


def test_it_is_the_matrix_of_positive_and_negative_parts() -> None:
    A, x, b = draw(5, 5), draw(7, 10, seed=1), draw(7, 10, seed=2)
    operator, M = BoxOperator.around(DenseOperator(A)), dense(A)
    assert operator.size == 10
    torch.testing.assert_close(operator.apply(x, b), x @ M.t() + b)
    torch.testing.assert_close(operator.apply_transpose(x, b), x @ M + b)
    out = torch.empty_like(b)
    assert operator.apply(x, b, out) is out
    torch.testing.assert_close(out, x @ M.t() + b)
    assert bool((operator.magnitudes.apply(x.abs(), b) >= x.abs() @ M.abs().t() + b).all())
    torch.testing.assert_close(operator.row_norms(), A.abs().sum(1).repeat(2))
    assert operator.frobenius_norm() == pytest.approx(float(M.norm()))


@pytest.mark.parametrize("name", ["apply", "apply_transpose"])
def test_rounding_is_bounded_by_what_is_summed(name: str) -> None:
    """Also where entries of M are zero: there two products cancel, and leave their rounding.

    Judged by |M| alone, a state that such entries feed would never seem converged.
    """
    A, x, b = draw(30, 30).abs().float(), draw(8, 60, seed=1).float(), torch.zeros(8, 60)
    x[:, 30:] *= 1e6
    operator = BoxOperator.around(DenseOperator(A))
    exact = getattr(operator.to(torch.float64), name)(x.double(), b.double())
    summed = getattr(operator.magnitudes, name)(x.abs(), b)
    error = (getattr(operator, name)(x, b) - exact).abs()
    # Each sum of 30 terms, twice, then their difference.
    assert bool((error <= 32 * torch.finfo(torch.float32).eps * summed).all())


@pytest.mark.parametrize("scale", [0.3, 3.0], ids=["inside", "beyond"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_gradient_of_the_box_equilibrium(scale: float, activation: str) -> None:
    """By the implicit function theorem, through |A| and the projection, against differences."""
    raw, b = scale * draw(4, 4) / 4, draw(3, 8, seed=3)
    b = torch.cat((b[:, :4] - b[:, 4:].abs(), b[:, :4] + b[:, 4:].abs()), dim=1)
    assert (raw.abs().sum(1).max() > 0.8) == (scale == 3.0)

    def solve(raw: Tensor, b: Tensor) -> Tensor:
        A = project_rows_l1(raw, 0.8)
        return equilibrium(
            BoxOperator.around(DenseOperator(A)), b, get_activation(activation), **SOLVING
        )  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(
        solve, (raw.requires_grad_(), b.requires_grad_()), fast_mode=True
    )


def test_it_is_the_implicit_model_of_twice_the_states() -> None:
    A = project_rows_l1(draw(6, 6), 0.9)
    centre, radius = draw(5, 6, seed=4), draw(5, 6, seed=5).abs()
    b = torch.cat((centre - radius, centre + radius), dim=1)
    relu = get_activation("relu")
    box = equilibrium(BoxOperator.around(DenseOperator(A)), b, relu, **SOLVING)  # type: ignore[arg-type]
    formed = equilibrium(DenseOperator(dense(A)), b, relu, **SOLVING)  # type: ignore[arg-type]
    torch.testing.assert_close(box, formed)
    low, high = box.chunk(2, dim=1)
    assert bool((low <= high).all())
    for seed in range(20):
        share = torch.rand(6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        corner = share.round() if seed % 2 else share
        inside = equilibrium(
            DenseOperator(A),
            centre + radius * (2 * corner - 1),
            relu,
            **SOLVING,  # type: ignore[arg-type]
        )
        assert bool(((low - 1e-12 <= inside) & (inside <= high + 1e-12)).all())


def operators() -> dict[str, Operator]:
    """Convolutions, and a grid of them over two scales."""
    layout = ConvolutionLayout(2, 5, 4, padding=1)
    down = ConvolutionLayout(2, 5, 4, stride=2, padding=1)
    small = ConvolutionLayout(3, 3, 2, padding=1)
    conv = ConvolutionOperator(draw(2, 2, 3, 3), layout)
    to_coarse = ConvolutionOperator(draw(3, 2, 3, 3, seed=1), down)
    to_fine = TransposedOperator(ConvolutionOperator(draw(3, 2, 3, 3, seed=2), down))
    coarse = ConvolutionOperator(draw(3, 3, 3, 3, seed=3), small)
    return {"convolution": conv, "scales": BlockOperator([[conv, to_fine], [to_coarse, coarse]])}


@pytest.mark.parametrize("name", ["convolution", "scales"])
def test_of_convolutions_it_is_that_of_their_matrix(name: str) -> None:
    A = operators()[name]
    operator, M = BoxOperator.around(A), dense(A.to_dense())
    size = operator.size
    assert M.shape == operator.shape == (size, size)
    x, v, b = (draw(3, size, seed=seed) for seed in range(3))
    torch.testing.assert_close(operator.apply(x, b), x @ M.t() + b)
    torch.testing.assert_close(operator.apply_transpose(v, b), v @ M + b)
    torch.testing.assert_close(operator.row_norms(), M.abs().sum(1))
    again = operator.form(*operator.factors)
    torch.testing.assert_close(again.apply(x, b), x @ M.t() + b)
    # ∂(v·Mx) by the factors of A and of R, against differentiation
    leaves = [factor.clone().requires_grad_() for factor in operator.factors]
    (v * operator.form(*leaves).apply(x, torch.zeros_like(x))).sum().backward()
    pulled = operator.factor_gradients(v, x, [True] * len(leaves))
    for leaf, found in zip(leaves, pulled, strict=True):
        torch.testing.assert_close(found, leaf.grad)
    # dM x, the derivative along tangents
    tangents = [draw(*factor.shape, seed=9 + i) for i, factor in enumerate(operator.factors)]
    change = sum(each.apply(x, torch.zeros_like(x)) for each in operator.changes(tangents))
    moved = operator.form(*(f + t for f, t in zip(operator.factors, tangents, strict=True)))
    torch.testing.assert_close(change, moved.apply(x, b) - operator.apply(x, b))
