import pytest
import torch
from torch import Tensor

from idl_cli.equilibrium.activations import activation_names, get_activation
from idl_cli.equilibrium.back_substitution import independent_blocks, solve_adjoint, solve_state


def triangle(size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, size, generator=generator, dtype=torch.float64).triu(1)


def test_a_dense_triangle_has_one_state_a_block_and_zero_one_block() -> None:
    assert independent_blocks(triangle(4)) == [(3, 4), (2, 3), (1, 2), (0, 1)]
    assert independent_blocks(torch.zeros(4, 4)) == [(0, 4)]


def test_the_blocks_of_a_feed_forward_network_are_its_layers() -> None:
    widths = [3, 5, 2, 4]
    starts = [0, 3, 8, 10, 14]
    matrix = torch.zeros(14, 14)
    for layer in range(3):
        rows = slice(starts[layer], starts[layer + 1])
        columns = slice(starts[layer + 1], starts[layer + 2])
        matrix[rows, columns] = torch.randn(widths[layer], widths[layer + 1])
    assert independent_blocks(matrix) == [(10, 14), (8, 10), (3, 8), (0, 3)]


@pytest.mark.parametrize("name", activation_names())
@pytest.mark.parametrize("scale", [0.3, 30.0])
def test_state_and_adjoint_solve_their_equations_to_rounding(name: str, scale: float) -> None:
    activation = get_activation(name)
    matrix = scale * triangle(12)
    offset = triangle(12, seed=1)[:5] + 0.1
    x = solve_state(matrix, offset, activation, independent_blocks(matrix))
    z = x @ matrix.t() + offset
    magnitude = 1 + float(z.abs().max())
    # φ is applied to z summed in another order: L times the rounding of z.
    assert float((activation.function(z) - x).abs().max()) <= 1e-13 * magnitude
    slopes, gradient = activation.derivative(z), triangle(12, seed=2)[:5]
    v = solve_adjoint(matrix, slopes, gradient, independent_blocks(matrix))
    image = slopes * (v @ matrix + gradient)
    assert float((image - v).abs().max()) <= 1e-13 * (1 + float(v.abs().max()))
