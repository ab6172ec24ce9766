import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from idl_cli.equilibrium.operators import (
    DenseOperator,
    LowRankOperator,
    Operator,
    StrictlyUpperTriangularOperator,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


OPERATORS = {
    "dense": (DenseOperator(normal(7, 7)), normal(7, 7)),
    "low rank": (
        LowRankOperator(normal(7, 2), normal(7, 2, seed=1)),
        normal(7, 2) @ normal(7, 2, seed=1).t(),
    ),
    "triangular": (StrictlyUpperTriangularOperator(normal(7, 7).triu(1)), normal(7, 7).triu(1)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_products_are_those_of_the_matrix(name: str) -> None:
    operator, matrix = OPERATORS[name]
    x, offset, out = normal(4, 7, seed=2), normal(4, 7, seed=3), torch.empty(4, 7).double()
    assert operator.size == 7
    torch.testing.assert_close(operator.apply(x, offset), x @ matrix.t() + offset)
    torch.testing.assert_close(operator.apply_transpose(x, offset), x @ matrix + offset)
    assert operator.apply(x, offset, out) is out
    torch.testing.assert_close(out, x @ matrix.t() + offset)
    assert operator.apply_transpose(x, offset, out) is out
    torch.testing.assert_close(out, x @ matrix + offset)


@pytest.mark.parametrize("name", OPERATORS)
def test_factor_gradients_are_those_of_the_bilinear_form(name: str) -> None:
    operator, _ = OPERATORS[name]
    x, v = normal(4, 7, seed=2), normal(4, 7, seed=3)
    factors = [factor.clone().requires_grad_() for factor in operator.factors]
    form = (v * type(operator)(*factors).apply(x, torch.zeros_like(x))).sum()
    expected = torch.autograd.grad(form, factors)
    pulled = operator.factor_gradients(v, x, [True] * len(factors))
    for gradient, reference in zip(pulled, expected, strict=True):
        torch.testing.assert_close(gradient, reference)
    assert operator.factor_gradients(v, x, [False] * len(factors)) == (None,) * len(factors)


class LargestTensor(TorchDispatchMode):
    """Remembers the largest number of elements any operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def test_low_rank_products_and_gradients_never_form_the_matrix() -> None:
    samples, size, rank = 3, 500, 2
    operator: Operator = LowRankOperator(normal(size, rank), normal(size, rank, seed=1))
    x, v = normal(samples, size, seed=2), normal(samples, size, seed=3)
    with LargestTensor() as largest:
        operator.apply(x, v)
        operator.apply_transpose(v, x)
        operator.factor_gradients(v, x, [True, True])
    assert largest.elements <= samples * size
