"""Every operator is the matrix that it stands for, in all that is asked of it."""

import re

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from idl_cli.equilibrium.activations import get_activation
from idl_cli.equilibrium.gradient.implicit_gradient import equilibrium
from idl_cli.equilibrium.operators import (
    BlockOperator,
    ConvolutionLayout,
    ConvolutionOperator,
    DenseOperator,
    LowRankOperator,
    Operator,
    SparseOperator,
    SparsePattern,
)
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings
from idl_cli.errors import ShapeError
from tests.equilibrium.operators.matrices import SQUARE, WIDE, Case, normal

ALL = SQUARE | WIDE


@pytest.mark.parametrize("name", ALL)
def test_products_norms_and_gradients_are_those_of_the_matrix(name: str) -> None:
    case = ALL[name]
    operator, matrix = case.make(*case.factors), case.matrix(*case.factors)
    rows, columns = matrix.shape
    assert operator.shape == (rows, columns)
    for samples in (1, 4):
        x, v = normal(samples, columns, seed=2), normal(samples, rows, seed=3)
        for product, expected in (
            (operator.apply(x, v), x @ matrix.t() + v),
            (operator.apply(x, v, torch.empty_like(v)), x @ matrix.t() + v),
            (operator.apply_transpose(v, x), v @ matrix + x),
            (operator.apply_transpose(v, x, torch.empty_like(x)), v @ matrix + x),
        ):
            torch.testing.assert_close(product, expected)
        factors = [factor.clone().requires_grad_() for factor in operator.factors]
        form = (v * operator.form(*factors).apply(x, torch.zeros_like(v))).sum()
        expected = torch.autograd.grad(form, factors)
        pulled = operator.factor_gradients(v, x, [True] * len(factors))
        for gradient, reference in zip(pulled, expected, strict=True):
            torch.testing.assert_close(gradient, reference)
        assert operator.factor_gradients(v, x, [False] * len(factors)) == (None,) * len(factors)
    torch.testing.assert_close(operator.to_dense(), matrix)
    torch.testing.assert_close(operator.row_norms(), matrix.abs().sum(dim=1))
    assert operator.frobenius_norm() == pytest.approx(float(torch.linalg.matrix_norm(matrix)))
    assert operator.to(torch.float32).to_dense().dtype == torch.float32
    bound = operator.magnitudes.to_dense()
    assert bool((bound >= matrix.abs() - 1e-12).all())
    if not isinstance(operator, LowRankOperator) and name != "mixed":
        torch.testing.assert_close(bound, matrix.abs())


@pytest.mark.parametrize("name", SQUARE)
def test_the_growth_of_powers_is_near_the_spectral_radius(name: str) -> None:
    case = SQUARE[name]
    radius = float(torch.linalg.eigvals(case.matrix(*case.factors)).abs().max())
    if case.make(*case.factors).nilpotent:
        return
    # A convolution's largest eigenvalues lie close together.
    assert case.make(*case.factors).growth() == pytest.approx(radius, rel=0.5)
    positive = [factor.abs() for factor in case.factors]
    radius = float(torch.linalg.eigvals(case.matrix(*positive)).abs().max())
    assert case.make(*positive).growth() == pytest.approx(radius, rel=0.1)
    assert case.make(*(0 * factor for factor in case.factors)).growth() == 0


def scaled(case: Case) -> list[Tensor]:
    """Factors of an A with ‖A‖∞ = 0.7."""
    norm = max(float(case.matrix(*case.factors).abs().sum(dim=1).max()), 1e-9)
    first, *rest = case.factors
    if len(rest) == 1:  # a product
        return [first * (0.7 / norm), *rest]
    return [factor * (0.7 / max(norm, 1)) for factor in case.factors]


def solved(operator: Operator, offset: Tensor, method: str = "auto") -> Tensor:
    return equilibrium(
        operator,
        offset,
        get_activation("tanh"),
        forward=FixedPointSettings(method, tol=1e-13),  # type: ignore[arg-type]
        backward=AdjointSettings(method, tol=1e-13),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("method", ["auto", "anderson"])
@pytest.mark.parametrize("name", SQUARE)
def test_equilibria_and_two_derivatives_are_those_of_the_matrix(name: str, method: str) -> None:
    case = SQUARE[name]
    found = []
    for make in (case.make, lambda *factors: DenseOperator(case.matrix(*factors))):
        leaves = [factor.clone().requires_grad_() for factor in scaled(case)]
        offset = normal(5, make(*leaves).size, seed=4).requires_grad_()
        x = solved(make(*leaves), offset, method)
        first = torch.autograd.grad(x.square().sum(), (offset, *leaves), create_graph=True)
        plain = torch.autograd.grad(x.square().sum(), (offset, *leaves), retain_graph=True)
        # Of an A of zeros nothing feeds back, and no second derivative knows of A.
        total = sum(each.sin().sum() for each in first)
        second = torch.autograd.grad(total, (offset, *leaves))
        found.append([x, *first, *plain, *second])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-8)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.parametrize("name", SQUARE)
def test_derivatives_equal_differences_in_both_modes_and_in_batches(name: str) -> None:
    case = SQUARE[name]
    leaves = [factor.clone().requires_grad_() for factor in scaled(case)]
    offset = normal(2, case.make(*leaves).size, seed=4).requires_grad_()
    whole = offset.shape[1] < 20  # of the larger ones one random direction is looked at
    assert gradcheck(
        lambda offset, *factors: solved(case.make(*factors), offset),
        (offset, *leaves),
        check_forward_ad=True,
        check_batched_grad=whole,
        check_batched_forward_grad=whole,
        fast_mode=not whole,
    )


@pytest.mark.parametrize("name", SQUARE)
def test_a_sample_is_the_same_in_a_batch_of_any_size(name: str) -> None:
    case = SQUARE[name]
    operator = case.make(*(factor.float() for factor in scaled(case)))
    offset = normal(512, operator.size, seed=6).float()
    together = solved(operator, offset)
    for start, stop in ((0, 1), (100, 107)):
        # Products of another size round otherwise: some units in the last place.
        torch.testing.assert_close(
            solved(operator, offset[start:stop]), together[start:stop], atol=3e-6, rtol=0
        )


def test_the_norm_of_a_convolution_is_the_largest_of_a_kernel() -> None:
    kernel = normal(3, 3, 5, 5)
    operator = ConvolutionOperator(kernel, ConvolutionLayout(3, 8, 5, padding=2))
    expected = kernel.abs().sum(dim=(1, 2, 3)).max()
    torch.testing.assert_close(operator.row_norms().max(), expected)
    # In an image smaller than the kernel no pixel sees all of it.
    small = ConvolutionOperator(kernel, ConvolutionLayout(3, 2, 2, padding=2))
    assert float(small.row_norms().max()) < float(expected)


class LargestTensor(TorchDispatchMode):
    """Remembers the largest number of elements any operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.layout == torch.strided:
            self.elements = max(self.elements, result.numel())
        return result


def test_the_magnitude_of_a_large_matrix_is_never_formed() -> None:
    size, samples = 1500, 3
    matrix = normal(size, size)
    magnitudes = DenseOperator(matrix).magnitudes
    x, v = normal(samples, size, seed=2), normal(samples, size, seed=3)
    with torch.no_grad(), LargestTensor() as largest:
        products = (
            magnitudes.apply(x, v),
            magnitudes.apply(x, v, torch.empty_like(v)),
            magnitudes.apply_transpose(v, x),
            magnitudes.apply_transpose(v, x, torch.empty_like(x)),
        )
    assert largest.elements < size**2 / 10
    for product in products[:2]:
        torch.testing.assert_close(product, x @ matrix.abs().t() + v)
    for product in products[2:]:
        torch.testing.assert_close(product, v @ matrix.abs() + x)
    torch.testing.assert_close(magnitudes.to_dense(), matrix.abs())


def test_low_rank_products_and_gradients_never_form_the_matrix() -> None:
    samples, size, rank = 3, 500, 2
    operator: Operator = LowRankOperator(normal(size, rank), normal(size, rank, seed=1))
    x, v = normal(samples, size, seed=2), normal(samples, size, seed=3)
    with LargestTensor() as largest:
        operator.apply(x, v)
        operator.apply_transpose(v, x)
        operator.factor_gradients(v, x, [True, True])
    assert largest.elements <= samples * size


@pytest.mark.parametrize("name", ["sparse", "sparse triangular", "convolution"])
def test_a_solve_and_its_gradient_never_form_the_matrix(name: str) -> None:
    layout = ConvolutionLayout(2, 12, 12, padding=1)
    case = {
        "sparse": SQUARE["sparse"],
        "sparse triangular": SQUARE["sparse triangular"],
        "convolution": Case(
            lambda k: ConvolutionOperator(k, layout), (normal(2, 2, 3, 3),), lambda k: k.flatten(1)
        ),
    }[name]
    leaves = [factor.clone().requires_grad_() for factor in scaled(case)]
    operator = case.make(*leaves)
    offset = normal(2, operator.size, seed=4)
    with LargestTensor() as largest:
        solved(operator, offset, "picard").sum().backward()
    assert largest.elements < operator.size**2


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: ConvolutionOperator(normal(4, 2, 3, 2), ConvolutionLayout(2, 4, 4)),
            "the kernel has shape (4, 2, 3, 2); expected (c_out, 2, k, k)",
        ),
        (
            lambda: ConvolutionOperator(normal(3, 1, 3, 3), ConvolutionLayout(2, 4, 4, groups=2)),
            "c_out a multiple of groups=2",
        ),
        (
            lambda: ConvolutionOperator(normal(1, 2, 5, 5), ConvolutionLayout(2, 4, 4)),
            "a kernel of 5 pixels does not fit an image of 4 x 4 with padding=0",
        ),
        (
            lambda: BlockOperator([[DenseOperator(normal(2, 2)), None]]),
            "column 1 of the blocks has sizes []; expected one",
        ),
        (
            lambda: BlockOperator([[DenseOperator(normal(2, 2))], [DenseOperator(normal(2, 3))]]),
            "column 0 of the blocks has sizes [2, 3]; expected one",
        ),
        (lambda: BlockOperator([[None], []]), "the rows of blocks hold [0, 1] blocks"),
    ],
)
def test_parts_that_do_not_fit_are_refused(make: object, said: str) -> None:
    with pytest.raises(ShapeError, match=re.escape(said)):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("samples", [1, 7, 30, 31, 100])
def test_a_sparse_product_in_parts_is_that_of_all_samples(
    samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "idl_cli.equilibrium.operators.sparse"
    monkeypatch.setattr(f"{module}._CACHED_VALUES", 10 * 30)  # 30 samples of ten values
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(6, 10, generator=generator, dtype=torch.float64)
    matrix *= torch.rand(6, 10, generator=generator) < 0.3
    pattern = SparsePattern.of(matrix)
    operator = SparseOperator(pattern.values(matrix), pattern)
    x, b = (torch.randn(samples, size, generator=generator).double() for size in (10, 6))
    torch.testing.assert_close(operator.apply(x, b), x @ matrix.t() + b)
    same = b[:1].expand(samples, -1)
    torch.testing.assert_close(operator.apply(x, same), x @ matrix.t() + same)
    torch.testing.assert_close(operator.apply_transpose(b, x), b @ matrix + x)
