import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idl_cli.equilibrium.sweep_order import SweepOrder


@given(size=st.integers(1, 12), density=st.floats(0, 1), seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=40, derandomize=True)
def test_a_hidden_triangle_is_found_and_a_cycle_is_not_one(
    size: int, density: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(size, size, generator=generator).triu(1)
    matrix *= torch.rand(size, size, generator=generator) < density
    shuffle = torch.randperm(size, generator=generator)
    matrix = matrix[shuffle][:, shuffle]
    orders = SweepOrder()
    order = orders.of(matrix)
    assert order is not None
    assert torch.equal(order.sort().values, torch.arange(size))
    assert not matrix[order][:, order].tril().any()

    # Closing a cycle in the same matrix must not be missed by what is remembered of it.
    entries = matrix.nonzero()
    i, j = entries[0].tolist() if len(entries) else (0, 0)
    matrix[j, i] = 1e-30
    assert orders.of(matrix) is None
    matrix[j, i] = 0
    found = orders.of(matrix)
    assert found is not None
    assert torch.equal(found, order)


def test_layers_are_found_as_levels() -> None:
    # x = (x_3, x_2, x_1), three layers of two, states shuffled: one order, layer after layer.
    matrix = torch.zeros(6, 6)
    matrix[0:2, 2:4] = 1
    matrix[2:4, 4:6] = 1
    shuffle = torch.tensor([3, 0, 5, 1, 4, 2])
    order = SweepOrder().of(matrix[shuffle][:, shuffle])
    assert order is not None
    assert [sorted(level) for level in shuffle[order].reshape(3, 2).tolist()] == [
        [0, 1],
        [2, 3],
        [4, 5],
    ]
