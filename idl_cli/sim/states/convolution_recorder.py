"""A teacher's own kernels as a convolutional model, and that model's states as the teacher's."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from idl_cli.errors import ArgumentError, UnsupportedModelError
from idl_cli.models.convolutional.traced.network import kernels_of
from idl_cli.models.implicit import ImplicitModel
from idl_cli.sim.states.hooks import left_as_found
from idl_cli.sim.states.layout import StateLayout, StateRecorder, on_device_of, require_finite
from idl_cli.sim.states.recorders import Probe, first_forward

_REFUSED = "trainer.structure=convolution: "
_INSTEAD = (
    "; what it takes are graphs of Conv2d (padded with zeros, in one group), Linear, normalisation "
    "behind a layer, poolings and sums, with an activation between each two layers. Use "
    "trainer.structure=feedforward for other networks"
)


class ConvolutionRecorder(StateRecorder):
    """Records a network by its kernels: layer after layer, without a row of all states.

    Args:
        teacher: any module that is such a graph; one that is a ``FeedforwardConv`` too.
        inputs: a batch to look at it with.

    Attributes:
        form: the teacher with its own weights, normalisation folded into them; in the teacher's
            dtype (float32 for half precision), on its device.

    Raises:
        UnsupportedModelError: the teacher is no such graph; the message names the module.
        ShapeError: it does not take such inputs.
        ArgumentError: the batch is empty or no real numbers.
    """

    def __init__(self, teacher: nn.Module, inputs: Tensor) -> None:
        self.teacher = teacher
        if len(inputs) == 0 or not inputs.is_floating_point():
            raise ArgumentError(
                f"the loader gives {len(inputs)} inputs of {inputs.dtype}; kernels need at least "
                "one sample of real numbers"
            )
        require_finite("the inputs", inputs)
        if isinstance(teacher, ImplicitModel):
            raise UnsupportedModelError(f"{_REFUSED}the teacher is an implicit model{_INSTEAD}")
        probe = Probe.of(teacher, {}, on_device_of(teacher, inputs[:8]))
        with left_as_found(probe.network):
            _require_fitting(probe.network, probe.inputs)
            try:
                self.form, names = kernels_of(probe.network, probe.inputs)
            except UnsupportedModelError as error:
                raise UnsupportedModelError(f"{_REFUSED}{error}{_INSTEAD}") from error
        form = self.form
        self.layout = StateLayout(
            names=tuple(names[::-1]),
            sizes=tuple(prod(shape) for shape in form.graph.sum_shapes[-2::-1]),
            input_dim=form.input_dim,
            output_dim=form.output_dim,
            has_bias=any(module.bias is not None for module in form.weights),
            activation=form.activation,
        )

    def outputs(self, inputs: Tensor) -> Tensor:
        """Y (m, q), of the teacher itself."""
        with left_as_found(self.teacher):
            found: Tensor = self.teacher(on_device_of(self.teacher, inputs))
        return found.detach()

    @torch.no_grad()
    def _record(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        like = next(self.form.parameters())
        *hidden, outputs = [total for _, total in self.form.evaluated(inputs.to(like))]
        pre_activations = torch.cat([total.flatten(1) for total in hidden[::-1]], dim=1)
        return pre_activations, self.layout.activation.function(pre_activations), outputs


def _require_fitting(network: nn.Module, inputs: Tensor) -> None:
    with first_forward(inputs):
        outputs = network(inputs)
    if not isinstance(outputs, Tensor) or outputs.dim() != 2:
        raise UnsupportedModelError(f"{_REFUSED}the teacher does not return outputs (m, q)")
    require_finite("the teacher's outputs", outputs)
