"""Explicit networks: teachers for state-driven training, and baselines beside implicit models.

Every hidden state passes through an activation module and everything between two activations is
affine (strided convolutions rather than pooling), so each network has an exact implicit form.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from math import prod

from torch import Tensor, nn

from idl_cli.config.arguments import check_options
from idl_cli.errors import ArgumentError, ShapeError
from idl_cli.json_value import JSONValue
from idl_cli.models.activation_modules import activation_module
from idl_cli.models.base import TrainableModel
from idl_cli.models.options import CnnTeacherOptions, MlpTeacherOptions


class ExplicitNetwork(TrainableModel):
    """A network without equilibria, whose constructor's arguments are its attributes."""

    def constructor_arguments(self) -> dict[str, JSONValue]:
        """Keyword arguments that make a network of the same shape."""
        values = {
            name: getattr(self, name)
            for name in signature(type(self)).parameters
            if name != "match_parameters"  # the width that it chose says all that it said
        }
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
        }


class MLP(ExplicitNetwork):
    """A fully connected network; inputs are flattened.

    Args:
        input_shape: shape of one input; its entries, p, are the width of the input layer.
        output_dim: classes, or targets of a regression, q.
        hidden_dims: width of each hidden layer, first layer first.
        activation: name of the activation after each hidden layer.
        bias: whether the layers have offsets.

    Raises:
        ArgumentError: a width below 1, no hidden layer, or an unknown activation.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_dim: int,
        *,
        hidden_dims: Sequence[int] = MlpTeacherOptions.hidden_dims,
        activation: str = MlpTeacherOptions.activation,
        bias: bool = MlpTeacherOptions.bias,
    ) -> None:
        super().__init__()
        if any(size < 1 for size in input_shape):
            raise ArgumentError(f"input_shape={list(input_shape)} must hold whole numbers >= 1")
        check_options(MlpTeacherOptions, {"hidden_dims": hidden_dims})
        self.input_shape, self.output_dim = tuple(input_shape), output_dim
        self.hidden_dims, self.activation = tuple(hidden_dims), activation
        self.bias = bias
        self.layers = nn.Sequential(nn.Flatten())
        width = self.input_dim
        for hidden_dim in hidden_dims:
            self.layers.append(nn.Linear(width, hidden_dim, bias=bias))
            self.layers.append(activation_module(activation))
            width = hidden_dim
        self.layers.append(nn.Linear(width, output_dim, bias=bias))

    @property
    def input_dim(self) -> int:
        """Entries of one input, p."""
        return prod(self.input_shape)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (m, output_dim) for inputs (m, ...) of ``input_dim`` entries each."""
        entries = prod(inputs.shape[1:])
        if entries != self.input_dim:
            raise ShapeError(
                f"inputs of shape {tuple(inputs.shape)} have {entries} entries each; "
                f"this network takes {self.input_dim}"
            )
        outputs: Tensor = self.layers(inputs)
        return outputs


class CNN(ExplicitNetwork):
    """A small convolution network for images: strided convolutions, then one hidden layer.

    Args:
        input_shape: shape of one image, (height, width) or (channels, height, width).
        output_dim: classes, or targets of a regression, q.
        channels: channels after each convolution; each halves height and width. The default is
            narrow because every hidden entry becomes a state of the implicit model.
        hidden_dim: width of the fully connected layer before the output.
        kernel_size: height and width of the kernels, an odd number.
        activation: name of the activation after each convolution and after the hidden layer.
        bias: whether the layers have offsets.

    Raises:
        ArgumentError: a width below 1, an even kernel, an unknown activation, or inputs that are
            no images.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_dim: int,
        *,
        channels: Sequence[int] = CnnTeacherOptions.channels,
        hidden_dim: int = CnnTeacherOptions.hidden_dim,
        kernel_size: int = CnnTeacherOptions.kernel_size,
        activation: str = CnnTeacherOptions.activation,
        bias: bool = CnnTeacherOptions.bias,
    ) -> None:
        super().__init__()
        if len(input_shape) not in (2, 3):
            raise ArgumentError(
                f"input_shape={list(input_shape)} is no image; a convolution network needs "
                "(height, width) or (channels, height, width), choose the mlp for other inputs"
            )
        sizes = {"channels": channels, "hidden_dim": hidden_dim, "kernel_size": kernel_size}
        check_options(CnnTeacherOptions, sizes)
        self.input_shape, self.output_dim = tuple(input_shape), output_dim
        self.channels, self.hidden_dim = tuple(channels), hidden_dim
        self.kernel_size, self.activation, self.bias = kernel_size, activation, bias
        image_shape = (1, *input_shape) if len(input_shape) == 2 else tuple(input_shape)
        depth, height, width = image_shape
        self.layers = nn.Sequential(nn.Flatten(), nn.Unflatten(1, image_shape))
        for channel_count in channels:
            self.layers.append(
                nn.Conv2d(
                    depth, channel_count, kernel_size, stride=2, padding=kernel_size // 2, bias=bias
                )
            )
            self.layers.append(activation_module(activation))
            depth, height, width = channel_count, (height + 1) // 2, (width + 1) // 2
        self.layers.append(nn.Flatten())
        self.layers.append(nn.Linear(depth * height * width, hidden_dim, bias=bias))
        self.layers.append(activation_module(activation))
        self.layers.append(nn.Linear(hidden_dim, output_dim, bias=bias))

    @property
    def input_dim(self) -> int:
        """Entries of one image, p."""
        return prod(self.input_shape)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (m, output_dim) for images (m, *input_shape), flattened ones included."""
        if prod(inputs.shape[1:]) != self.input_dim:
            raise ShapeError(
                f"inputs of shape {tuple(inputs.shape)} are no images of shape {self.input_shape}"
            )
        outputs: Tensor = self.layers(inputs)
        return outputs
