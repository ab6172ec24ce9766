"""Pictures of convolutional states: norms are those of the matrix, tiles are where they belong."""

from typing import Any

import numpy as np
import pytest
import torch

from idl_cli.analysis.feature_maps import distinct, kernel_norms, kernel_pictures, map_pictures
from idl_cli.models.convolutional.implicit_conv import ImplicitConv


def _model(shape: tuple[int, ...] = (1, 8, 8), **options: Any) -> ImplicitConv:
    torch.manual_seed(0)
    return ImplicitConv(shape, 3, **{"channels": [4, 6], "stride": 1, **options}).eval()


@pytest.mark.parametrize(
    "options", [{}, {"channels": [4]}, {"channels": [4], "groups": 2}, {"groups": 2}]
)
def test_the_norms_are_those_between_the_channels_of_the_matrix(options: dict[str, Any]) -> None:
    """A pixel in the middle of a map meets whole kernels, from whatever channel of its scale."""
    model = _model(kernel_size=3, **options)
    norms = kernel_norms(model)
    matrix = model.operator().to_dense().detach().double().abs()
    channels, middle = model.channels[0], 3 * 8 + 3  # of the finest maps, each pixel by pixel
    for channel in range(channels):
        row = matrix[middle * channels + channel, : 64 * channels].reshape(64, channels)
        for source in range(channels):
            found = row[:, source].sum()
            assert float(found) == pytest.approx(float(norms[channel, source]), rel=1e-6)
    # What a channel is fed in all is bounded by κ, and by that of the rows of the matrix.
    assert float(norms.sum(dim=1).max()) <= model.kappa * (1 + 1e-6)
    assert norms.shape == (sum(model.channels), sum(model.channels))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_every_kernel_and_the_coupling_are_drawn(depth: int) -> None:
    model = _model((depth, 8, 8))
    left, right = kernel_pictures(model).subfigs
    tiles = [axis.get_images()[0].get_array() for axis in left.axes if axis.get_images()]
    assert len(tiles) == 4
    assert tiles[0].shape == ((5, 5, 3) if depth == 3 else (5, 5))
    if depth == 1:
        kernel = model.B_0[0, 0].detach().double()
        np.testing.assert_allclose(tiles[0], kernel / kernel.abs().max(), rtol=1e-6)
    coupling = right.axes[0].get_images()[0].get_array()
    np.testing.assert_allclose(coupling, kernel_norms(model), rtol=1e-12)


def test_maps_are_those_of_the_equilibrium_beside_their_images() -> None:
    model = _model()
    images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    inputs = images.float() / 255
    figure = map_pictures(model, inputs, images)
    axes = figure.axes
    columns = len(axes) // 3
    assert columns == 1 + 4 + 4  # the image, and the most varied maps of each scale
    np.testing.assert_allclose(axes[0].get_images()[0].get_array(), images[0, 0] / 255)
    first = model.maps(inputs)[0].detach()
    np.testing.assert_allclose(axes[1].get_images()[0].get_array(), first[0, 0], rtol=1e-5)
    np.testing.assert_allclose(
        axes[columns + 2].get_images()[0].get_array(), first[1, 1], rtol=1e-5
    )


def test_samples_of_as_many_classes_as_can_be() -> None:
    targets = torch.tensor([5, 5, 2, 5, 2, 7])
    assert distinct(targets, 3).tolist() == [0, 2, 5]
    assert distinct(targets, 5).tolist() == [0, 2, 5, 1, 4]
    assert distinct(torch.rand(4, 2), 3).tolist() == [0, 1, 2]
