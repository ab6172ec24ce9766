"""A teacher's own kernels as a convolutional implicit model, read off its modules."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from idl_cli.errors import ArgumentError, UnsupportedModelError
from idl_cli.models.convolutional.feedforward_conv import FeedforwardConv, LayerShape, Weights
from idl_cli.sim.states.hooks import left_as_found
from idl_cli.sim.states.layout import StateRecorder
from idl_cli.sim.states.recorders import NetworkRecorder

_REFUSED = "trainer.structure=convolution: "
_INSTEAD = (
    "; what it takes are chains of Conv2d (padded with zeros, in one group) and Linear layers with "
    "an activation between each two. Use trainer.structure=feedforward for other networks"
)


def convolutional_form(recorder: StateRecorder) -> FeedforwardConv:
    """The teacher with its own weights: the same states and outputs, checked on the first inputs.

    Args:
        recorder: of a chain of convolutions and fully connected layers; with all its states.

    Returns:
        The model in the teacher's dtype (float32 for half precision), on its device.

    Raises:
        UnsupportedModelError: the teacher is no such chain; the message names the layer.
    """
    if not isinstance(recorder, NetworkRecorder):
        raise UnsupportedModelError(f"{_REFUSED}the teacher is an implicit model{_INSTEAD}")
    assert recorder.is_exact
    network, inputs = recorder.probe.network, recorder.probe.inputs
    called = _called(network, inputs)
    if not called:
        raise UnsupportedModelError(f"{_REFUSED}the teacher has no such layers{_INSTEAD}")
    structure = {
        "layers": [vars(LayerShape.of(module)) for module in called.values()],
        "activation": recorder.layout.activation.name,
    }
    try:
        with torch.random.fork_rng(devices=[]):  # what the weights begin with does not last
            model = FeedforwardConv(
                inputs.shape[1:], recorder.layout.output_dim, convolution_structure=structure
            )
    except ArgumentError as error:
        raise UnsupportedModelError(f"{_REFUSED}{error}{_INSTEAD}") from error
    model.to(inputs).eval()
    with torch.no_grad():
        for (name, module), made in zip(called.items(), model.weights, strict=True):
            if module.weight.shape != made.weight.shape:
                raise UnsupportedModelError(
                    f"{_REFUSED}layer {name!r} does not take the states before it as they "
                    f"are{_INSTEAD}"
                )
            made.weight.copy_(module.weight)
            if module.bias is not None:
                assert made.bias is not None
                made.bias.copy_(module.bias)
    _check_same(recorder, model)
    return model


def _called(network: nn.Module, inputs: Tensor) -> dict[str, Weights]:
    """The layers with weights in the order in which they are called."""
    found: dict[str, Weights] = {}

    def note(name: str, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        assert isinstance(module, Weights)
        why = None
        if name in found:
            why = "is used twice"
        elif isinstance(module, nn.Conv2d) and module.groups != 1:
            why = f"has {module.groups} groups"
        elif isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
            why = f"is padded by {module.padding_mode}"
        elif isinstance(module, nn.Conv2d) and isinstance(module.padding, str):
            why = f"has padding={module.padding!r} instead of numbers"
        if why is not None:
            raise UnsupportedModelError(f"{_REFUSED}layer {name!r} {why}{_INSTEAD}")
        found[name] = module

    with ExitStack() as stack:
        for name, module in network.named_modules():
            if isinstance(module, Weights):
                handle = module.register_forward_hook(partial(note, name))
                stack.callback(handle.remove)
        stack.enter_context(left_as_found(network))
        network(inputs)
    return found


@torch.no_grad()
def _check_same(recorder: NetworkRecorder, model: FeedforwardConv) -> None:
    """Compare states and outputs: what stands between the layers is then told too."""
    inputs = recorder.probe.inputs
    batch = recorder.record(inputs)
    pairs = [(batch.states, model.equilibrium(inputs)), (batch.outputs, model(inputs))]
    for expected, found in pairs:
        # Sums of up to thousands of terms in another order, layer after layer.
        tolerance = 1e4 * torch.finfo(found.dtype).eps * (1 + float(expected.abs().max()))
        if expected.shape != found.shape or not bool(
            ((expected.to(found) - found).abs() <= tolerance).all()
        ):
            raise UnsupportedModelError(
                f"{_REFUSED}the teacher does more than its layers say (a pooling, a "
                f"normalisation, a sum){_INSTEAD}"
            )
