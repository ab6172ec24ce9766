"""Statistics of patches are those of the unrolled layer, place by place."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from idl_cli.sim.statistics import patches as module
from idl_cli.sim.statistics.patches import TARGET, add_maps, patch_statistics, patches

PAIRS = st.tuples(st.integers(1, 2), st.integers(1, 2))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=PAIRS,
    padding=st.tuples(st.integers(0, 2), st.integers(0, 1)),
    dilation=PAIRS,
    bias=st.booleans(),
)
def test_sums_are_those_of_every_place_by_itself(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    bias: bool,
) -> None:
    generator = torch.Generator().manual_seed(sum(kernel) + 7 * sum(stride))
    torch.manual_seed(0)
    layer = nn.Conv2d(
        2, 3, kernel, stride=stride, padding=padding, dilation=dilation, bias=bias
    ).double()
    maps = torch.randn(4, 2, 6, 5, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        targets = layer(maps)
    found = patch_statistics([layer], torch.device("cpu"))
    add_maps(found, [layer], [maps[:3]], targets[:3])
    add_maps(found, [layer], [maps[3:]], targets[3:])

    padded = nn.functional.pad(maps, (padding[1], padding[1], padding[0], padding[0]))
    features = found.feature_dim
    gram = torch.zeros(features, features, dtype=torch.float64)
    cross, square = torch.zeros(3, features, dtype=torch.float64), torch.zeros(3).double()
    for sample in range(4):
        for row in range(targets.shape[2]):
            for column in range(targets.shape[3]):
                seen = [
                    padded[
                        sample,
                        channel,
                        row * stride[0] + i * dilation[0],
                        column * stride[1] + j * dilation[1],
                    ]
                    for channel in range(2)
                    for i in range(kernel[0])
                    for j in range(kernel[1])
                ]
                s = torch.stack(seen + [maps.new_ones(())] * bias)
                t = targets[sample, :, row, column]
                gram += torch.outer(s, s)
                cross += torch.outer(t, s)
                square += t.square()
    raw = found.raw(TARGET)
    for ours, expected in zip(raw, (gram, cross, square), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    assert found.count == 4 * targets.shape[2] * targets.shape[3]


@pytest.mark.parametrize("bias", [True, False])
def test_patches_times_weights_are_the_layer(bias: bool) -> None:
    torch.manual_seed(0)
    maps = torch.randn(3, 2, 5, 4, dtype=torch.float64)
    for layer in (nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=bias), nn.Linear(40, 4, bias=bias)):
        layer = layer.double()
        rows = layer.weight.flatten(1)
        if layer.bias is not None:
            rows = torch.cat([rows, layer.bias[:, None]], dim=1)
        found = (patches([layer], [maps]) @ rows.T).detach()
        with torch.no_grad():
            outputs = layer(maps.flatten(1) if isinstance(layer, nn.Linear) else maps)
        places = outputs.reshape(3, 4, -1).transpose(1, 2).flatten(0, 1)
        torch.testing.assert_close(found, places, rtol=0, atol=1e-13)


def test_layers_that_add_up_are_one_regression() -> None:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 4, 1, stride=2, bias=False).double(),
        nn.Conv2d(2, 4, 3, stride=1, padding=1).double(),
    ]
    maps = [torch.randn(5, 3, 8, 6).double(), torch.randn(5, 2, 4, 3).double()]
    with torch.no_grad():
        targets = layers[0](maps[0]) + layers[1](maps[1])
        rows = torch.cat([layer.weight.flatten(1) for layer in layers], dim=1)
        bias = layers[1].bias
        assert bias is not None
        rows = torch.cat([rows, bias[:, None]], dim=1)
        found = patches(layers, maps) @ rows.T
    torch.testing.assert_close(found, targets.flatten(2).transpose(1, 2).flatten(0, 1))
    statistics = patch_statistics(layers, torch.device("cpu"))
    add_maps(statistics, layers, maps, targets)
    gram, cross, _ = statistics.raw(TARGET)
    torch.testing.assert_close(torch.linalg.solve(gram, cross.T).T, rows)


def test_a_batch_in_pieces_is_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(1, 2, 3, padding=1).double()
    maps = torch.randn(7, 1, 4, 4, dtype=torch.float64)
    targets = torch.randn(7, 2, 4, 4, dtype=torch.float64)
    whole, pieces = (patch_statistics([layer], torch.device("cpu")) for _ in range(2))
    add_maps(whole, [layer], [maps], targets)
    monkeypatch.setattr(module, "_ENTRIES", 2 * 16 * 10)  # two samples
    add_maps(pieces, [layer], [maps], targets)
    assert whole.count == pieces.count == 7 * 16
    for ours, expected in zip(pieces.raw(TARGET), whole.raw(TARGET), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-13, atol=1e-12)
