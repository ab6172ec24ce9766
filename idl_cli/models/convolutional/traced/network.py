"""Any network that is a graph of convolutions, poolings and sums, with its own kernels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from idl_cli.errors import UnsupportedModelError
from idl_cli.models.convolutional.feedforward_conv import FeedforwardConv
from idl_cli.models.convolutional.traced.layers import Layers
from idl_cli.models.convolutional.traced.operations import OPERATIONS
from idl_cli.models.convolutional.traced.values import Value
from idl_cli.models.tracing.graph import Refused, Values, evaluating, interpreted, traced
from idl_cli.models.tracing.moves import SAMPLES
from idl_cli.models.tracing.network import check_same


def kernels_of(network: nn.Module, inputs: Tensor) -> tuple[FeedforwardConv, Sequence[str]]:
    """The network as a model of feature maps: the same outputs, checked on inputs.

    It is traced with ``torch.fx`` in evaluation mode, down to torch's operations. Normalisation by
    running statistics is folded into the layer before it, in float64; poolings stay as they are,
    and so do maps that are added (He et al., CVPR 2016).

    Args:
        network: takes (m, ...) and returns (m, q); left as it is.
        inputs: a few samples, in the network's dtype and on its device.

    Returns:
        The model in their dtype, on their device; and the names of the activations, one a layer of
        states.

    Raises:
        UnsupportedModelError: an operation has no place in such a model; the message names the
            module.
    """
    generator = torch.Generator().manual_seed(0)
    shape = inputs.shape[1:]
    sample = torch.randn(SAMPLES, *shape, generator=generator, dtype=torch.float64).to(inputs)
    graph, modules = traced(network, sample)
    layers = Layers(shape)
    values = Values(
        Value,
        OPERATIONS,
        layers,
        unknown="it is no convolution, fully connected layer, activation, pooling or sum",
        entered=lambda path: setattr(layers, "module", path),
    )
    try:
        outputs = interpreted(graph, modules, layers.image, values)
    except Refused as refused:
        path = modules.at(refused.number)
        where = f"{refused.operation} in module {path!r}" if path else refused.operation
        raise UnsupportedModelError(f"{where}: {refused}") from refused.__cause__
    if not isinstance(outputs, Value):
        raise UnsupportedModelError(
            "the teacher returns no single tensor that depends on its input"
        )
    model = layers.model(outputs).to(inputs).eval()
    with evaluating(network):
        check_same(network, model, inputs)
    return model, layers.names
