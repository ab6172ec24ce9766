"""A convolution network as the implicit model that it is: kernels for the blocks of A and B."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from idl_cli.equilibrium.activations import get_activation
from idl_cli.errors import ArgumentError
from idl_cli.json_value import JSONValue
from idl_cli.models.activation_modules import activation_module
from idl_cli.models.base import TrainableModel, flat_inputs
from idl_cli.models.implicit import ImplicitModel

Weights: TypeAlias = nn.Conv2d | nn.Linear
"""What a layer multiplies by: kernels, or a matrix over all entries of the maps."""


@dataclass(frozen=True)
class LayerShape:
    """One layer: a convolution with zero padding, or a fully connected one.

    Args:
        outputs: channels, or entries of a fully connected layer.
        bias: whether it has offsets.
        kernel_size: height and width of the kernels; None for a fully connected layer.
        stride: pixels from one place of the kernel to the next, down and across.
        padding: rows and columns of zeros on each side.
        dilation: pixels between entries of the kernel.
    """

    outputs: int
    bias: bool
    kernel_size: tuple[int, int] | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    @classmethod
    def of(cls, module: Weights) -> LayerShape:
        """That of a torch module without groups and with padding in numbers."""
        bias = module.bias is not None
        if isinstance(module, nn.Linear):
            return cls(module.out_features, bias)
        places = (module.kernel_size, module.stride, module.padding, module.dilation)
        kernel, stride, padding, dilation = ((int(each[0]), int(each[1])) for each in places)
        return cls(module.out_channels, bias, kernel, stride, padding, dilation)

    def module(self, maps: Sequence[int]) -> Weights:
        """A new module for maps (channels, height, width), or (entries,)."""
        if self.kernel_size is None:
            return nn.Linear(prod(maps), self.outputs, bias=self.bias)
        if len(maps) != 3:
            raise ArgumentError(
                f"a convolution of inputs of shape {tuple(maps)}; it takes (channels, height, "
                "width), so that none may follow a fully connected layer"
            )
        return nn.Conv2d(
            maps[0],
            self.outputs,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            bias=self.bias,
        )


class FeedforwardConv(TrainableModel):
    """x = φ(Ax + Bu + b), ŷ = Cx + c, with feature maps as states and kernels as parameters.

    The states are the maps of all hidden layers, the last first: A is strictly block upper
    triangular, its blocks convolutions (or matrices, of fully connected layers), B the convolution
    of the image. No bound of A is needed, and one sweep, layer after layer, is the equilibrium,
    exactly ([IDL] El Ghaoui et al., SIAM J. Math. Data Sci. 3(3), 2021, section 3).

    Parameters: ``layers.l.weight`` (c_out, c_in, k_h, k_w) of a convolution, (entries, entries
    before) of a fully connected layer, and ``layers.l.bias`` (c_out,). They start as torch's.

    Args:
        input_shape: (height, width) or (channels, height, width) of the images; any shape where
            all layers are fully connected.
        output_dim: q.
        convolution_structure: ``layers``, the fields of a ``LayerShape`` each, the last fully
            connected with q outputs; ``activation``, the name of φ.

    Raises:
        ArgumentError: the layers do not fit each other, the input or q.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_dim: int,
        *,
        convolution_structure: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.input_shape, self.output_dim = tuple(input_shape), output_dim
        self.activation = get_activation(convolution_structure["activation"])
        self.shapes = tuple(_layer_shape(each) for each in convolution_structure["layers"])
        if len(self.shapes) < 2 or self.shapes[-1].kernel_size is not None:
            raise ArgumentError(
                f"layers={convolution_structure['layers']}: at least one hidden layer, and a fully "
                "connected one for the outputs, are needed"
            )
        if self.shapes[-1].outputs != output_dim:
            raise ArgumentError(
                f"output_dim={output_dim}, but the last layer has {self.shapes[-1].outputs} outputs"
            )
        maps = (1, *input_shape) if len(input_shape) == 2 else tuple(input_shape)
        self._image = maps
        self.layers = nn.ModuleList()
        self._maps: list[tuple[int, ...]] = []
        for shape in self.shapes:
            module = shape.module(maps)
            maps = _output_shape(module, maps)
            self.layers.append(module)
            self._maps.append(maps)
        self.phi = activation_module(self.activation.name)

    @property
    def input_dim(self) -> int:
        """Entries of one input, p."""
        return prod(self.input_shape)

    @property
    def hidden_dim(self) -> int:
        """Number of states n: the pixels of all maps."""
        return sum(map(prod, self._maps[:-1]))

    @property
    def weights(self) -> list[Weights]:
        """The layers' modules in the order of computation."""
        return [each for each in self.layers if isinstance(each, Weights)]

    def forward(self, inputs: Tensor) -> Tensor:
        """Predict.

        Args:
            inputs: (m, *input_shape), flattened ones included; dtype of the parameters.

        Returns:
            ŷ (m, q).

        Raises:
            ShapeError: the input has another size or dtype.
        """
        return _applied(self.weights[-1], self.entering(inputs, len(self.shapes) - 1))

    def entering(self, inputs: Tensor, layer: int) -> Tensor:
        """What a layer reads: the maps (m, ...) of the one before it, the image for layer 0.

        Args:
            inputs: as for the prediction.
            layer: its number, from 0.
        """
        maps = flat_inputs(inputs, self.input_dim, self.weights[0].weight.dtype)
        maps = maps.reshape(-1, *self._image)
        for module in self.weights[:layer]:
            maps = self.phi(_applied(module, maps))
        return maps

    def equilibrium(self, inputs: Tensor) -> Tensor:
        """Return the equilibrium states x (m, n) of the inputs, those of the last layer first."""
        return self.solve(self.injected(inputs))

    def injected(self, inputs: Tensor) -> Tensor:
        """Return Bu + b (m, n) of inputs as for the prediction."""
        first, *others = self.weights[:-1]
        image = self.entering(inputs, 0)
        parts = [_applied(first, image)]
        for module, maps in zip(others, self._maps[1:-1], strict=True):
            part = image.new_zeros(len(image), *maps)
            if module.bias is not None:
                part = part + module.bias.reshape(-1, *[1] * (len(maps) - 1))
            parts.append(part)
        return torch.cat([part.flatten(1) for part in parts[::-1]], dim=1)

    def solve(self, injected: Tensor) -> Tensor:
        """Return the x (m, n) with x = φ(Ax + e) for e (m, n), differentiable in e."""
        given = self.blocks(injected)
        maps = self.phi(given[0])
        found = [maps]
        for module, part in zip(self.weights[1:-1], given[1:], strict=True):
            maps = self.phi(_multiplied(module, maps, module.weight) + part)
            found.append(maps)
        return torch.cat([maps.flatten(1) for maps in found[::-1]], dim=1)

    def read_out(self, states: Tensor) -> Tensor:
        """Return Cx + c (m, q) of states (m, n)."""
        return _applied(self.weights[-1], self.blocks(states)[-1])

    def blocks(self, states: Tensor) -> list[Tensor]:
        """Return the maps (m, ...) that make up rows of states (m, n), the first layer first."""
        shapes = self._maps[-2::-1]
        parts = states.split_with_sizes([prod(shape) for shape in shapes], dim=1)
        return [
            part.reshape(-1, *shape) for part, shape in zip(parts[::-1], shapes[::-1], strict=True)
        ]

    @torch.no_grad()
    def inf_norm_A(self) -> float:
        """Return ‖A‖∞, borders and all; 0 of a single hidden layer, which has no A."""
        largest = 0.0
        for module, maps in zip(self.weights[1:-1], self._maps[:-2], strict=True):
            size = module.weight.double().abs()
            sums = _multiplied(module, size.new_ones(1, *maps), size)
            largest = max(largest, float(sums.max()))
        return largest

    @torch.no_grad()
    def dense_form(self) -> ImplicitModel:
        """Return the same model by its matrices, convolutions unrolled, in float64: n² numbers.

        Raises:
            UnsupportedModelError: A is too large to be dense.
        """
        from idl_cli.models.tracing.network import from_network  # loads torch.fx

        return from_network(copy.deepcopy(self).double(), self.input_shape).to_dense()

    def to_sequential(self) -> nn.Sequential:
        """Return the layers and activations as torch's modules, on these very parameters."""
        modules: list[nn.Module] = [nn.Flatten(), nn.Unflatten(1, self._image)]
        for number, module in enumerate(self.weights):
            if isinstance(module, nn.Linear):
                modules.append(nn.Flatten())
            modules += [module, self.phi] if number < len(self.shapes) - 1 else [module]
        return nn.Sequential(*modules)

    def constructor_arguments(self) -> dict[str, JSONValue]:
        """Return the keyword arguments that make a model of this architecture again."""
        layers: list[JSONValue] = [
            {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(shape).items()}
            for shape in self.shapes
        ]
        return {
            "input_shape": list(self.input_shape),
            "output_dim": self.output_dim,
            "convolution_structure": {"layers": layers, "activation": self.activation.name},
        }


def _layer_shape(fields: Mapping[str, Any]) -> LayerShape:
    found: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return LayerShape(**found)


def _applied(module: Weights, maps: Tensor) -> Tensor:
    result: Tensor = module(maps.flatten(1) if isinstance(module, nn.Linear) else maps)
    return result


def _multiplied(module: Weights, maps: Tensor, weight: Tensor) -> Tensor:
    """The layer with another weight and no offsets."""
    if isinstance(module, nn.Linear):
        return functional.linear(maps.flatten(1), weight)
    return functional.conv2d(maps, weight, None, module.stride, module.padding, module.dilation)


def _output_shape(module: Weights, maps: Sequence[int]) -> tuple[int, ...]:
    if isinstance(module, nn.Linear):
        return (module.out_features,)
    shape = LayerShape.of(module)
    assert shape.kernel_size is not None
    sides = [
        (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for size, kernel, stride, padding, dilation in zip(
            maps[1:], shape.kernel_size, shape.stride, shape.padding, shape.dilation, strict=True
        )
    ]
    if min(sides) < 1:
        raise ArgumentError(f"a kernel {shape.kernel_size} does not fit maps of {tuple(maps)}")
    return (shape.outputs, *sides)
