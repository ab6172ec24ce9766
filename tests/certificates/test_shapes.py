"""Images of intervals and points on graphs, for every activation that there is."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idl_cli.certificates.shapes import SHAPES, Graph
from idl_cli.equilibrium.activations import activation_names, get_activation
from idl_cli.equilibrium.conditions import MONOTONE

ENDS = st.floats(-30, 30) | st.floats(-1, 1) | st.floats(-1e-6, 1e-6) | st.sampled_from([0.0, 6.0])


def test_every_activation_has_a_shape() -> None:
    assert set(SHAPES) == set(activation_names())


@pytest.mark.parametrize("name", activation_names())
def test_curvature_and_monotony_are_those_of_the_graph(name: str) -> None:
    activation, shape = get_activation(name), SHAPES[name]
    # no sample between two of the table lies at a kink
    z = torch.linspace(-25.005, 25.005, 500_101, dtype=torch.float64)
    step = float(z[1] - z[0])
    slopes = activation.derivative(z)
    bend = (slopes.diff() / step).abs()
    middles = (z[1:] + z[:-1]) / 2
    for kink in shape.kinks:
        bend = bend.masked_fill((middles - kink).abs() <= step, 0.0)
    # a difference of slopes is a mean of φ″, but for their rounding
    assert float(bend.max()) <= shape.curvature * (1 + 1e-6) + 1e-9
    assert (name in MONOTONE) == (float(slopes.min()) >= 0)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("name", activation_names())
@settings(max_examples=20, deadline=None, derandomize=True)
@given(one=ENDS, other=ENDS, weight=st.floats(-3, 3), multiplier=st.floats(-3, 3))
def test_no_point_leaves_its_bounds(
    name: str, known: bool, one: float, other: float, weight: float, multiplier: float
) -> None:
    activation = get_activation(name)
    graph = Graph(activation, SHAPES[name] if known else None)
    low, high = (torch.tensor([end], dtype=torch.float64) for end in sorted((one, other)))
    z = torch.linspace(0, 1, 501, dtype=torch.float64) * (high - low) + low
    z = z.clamp(low, high)
    value = activation.function(z)
    least, most = graph.image(low, high)
    assert float(value.min()) >= float(least)
    assert float(value.max()) <= float(most)
    if known:
        nodes, gap = graph.nodes(low, high)
        at, wrong = graph.values(nodes)
        bound = (weight * at - multiplier * nodes).amin() - abs(weight) * (gap + wrong.amax(0))
        rounding = 1e-13 * (1 + abs(float(high)) + abs(float(low)))
        assert float((weight * value - multiplier * z).min()) >= float(bound) - rounding
        assert bool(((nodes >= low) & (nodes <= high)).all())
