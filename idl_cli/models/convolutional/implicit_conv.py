"""The convolutional implicit model: x = φ(A∗x + B∗u + b), read out from pooled states."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import prod
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from idl_cli.config.arguments import check_options
from idl_cli.equilibrium.activations import get_activation
from idl_cli.equilibrium.gradient.implicit_gradient import equilibrium
from idl_cli.equilibrium.operators import rows_of
from idl_cli.equilibrium.precision import full_precision, solving_dtype
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings, of_known_equation
from idl_cli.equilibrium.statistics import SolveStatistics
from idl_cli.equilibrium.step_graphs import StepGraphs
from idl_cli.errors import ArgumentError, ShapeError, UnsupportedModelError
from idl_cli.json_value import JSONValue
from idl_cli.models.base import flat_inputs, outside_compiled_graphs
from idl_cli.models.convolutional.readout import Pooling, ReadoutLayer
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.options import ImplicitConvOptions
from idl_cli.models.parametrizations.convolution_linf import ConvolutionLinf, Scale
from idl_cli.models.parametrizations.model import ParametrizedModel
from idl_cli.models.solve_settings import settings_of

_LARGEST_MATRIX: Final = 2**30  # bytes


class ImplicitConv(ParametrizedModel):
    """Implicit model whose states are feature maps, of one or more scales.

    The state x solves x = φ(A∗x + B∗u + b): A convolves the maps of every scale into every scale
    (a stride leads down, its transpose up), B the image into every scale. ‖A‖∞ ≤ κ is kept on each
    channel's incoming kernels together, zero padding included, so the equilibrium exists and is
    unique as that of ``ImplicitModel``. The prediction is linear in the maps averaged over ``pool``
    × ``pool`` fields, or in those of one more layer above them (``ReadoutLayer``).

    Parameters: ``A`` (c, c/groups, k, k), of several scales ``A_i_j`` (see ``ConvolutionLinf``);
    ``B_i`` (c_i, c_in, k_B, k_B), ``state_bias_i`` (c_i,), ``C`` (q, features), ``output_bias``
    (q,). A starts with rows of l1 norm about κ/2, the rest uniform within ±√(3/fan-in) (B, so that
    normalised pixels make states of their own size) and ±1/√(fan-in) (C and biases).

    Args:
        input_shape: (height, width) or (channels, height, width) of the images.
        output_dim: q.
        channels: maps of each scale, the finest first; each has half the height and width of the
            one before.
        kernel_size: k of A, odd.
        input_kernel_size: k_B of B, odd.
        stride: pixels of the image a pixel of the finest maps, so that their area, and the price
            of an iteration, is stride² times smaller than the image's.
        groups: parts of a scale's channels that do not see each other in A.
        pool: fields a side, over which each scale's maps are averaged for the read-out; a scale
            with fewer pixels is read pixel by pixel.
        readout_channels: maps of a layer between the states and the averages, φ of a normalised
            3 × 3 convolution of each scale; 0 for none.
        kappa: κ of ‖A‖∞ ≤ κ, in (0, 1).
        bias: whether there are ``state_bias_i`` and ``output_bias``.
        dropout: share of the read-out's features that is left out in training.
        cuda_graphs: whether a GPU's plain steps are recorded as CUDA graphs (``StepGraphs``).
        activation: name of φ.
        forward: how equilibria are solved: settings or their fields.
        backward: how gradients are solved: settings or their fields.

    Raises:
        ArgumentError: a value is out of range, two contradict each other, or inputs are no images.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_dim: int,
        *,
        channels: Sequence[int] = ImplicitConvOptions.channels,
        kernel_size: int = ImplicitConvOptions.kernel_size,
        input_kernel_size: int = ImplicitConvOptions.input_kernel_size,
        stride: int = ImplicitConvOptions.stride,
        groups: int = ImplicitConvOptions.groups,
        pool: int = ImplicitConvOptions.pool,
        readout_channels: int = ImplicitConvOptions.readout_channels,
        kappa: float = ImplicitConvOptions.kappa,
        bias: bool = ImplicitConvOptions.bias,
        dropout: float = ImplicitConvOptions.dropout,
        cuda_graphs: bool = ImplicitConvOptions.cuda_graphs,
        activation: str = ImplicitConvOptions.activation,
        forward: FixedPointSettings | Mapping[str, Any] | None = None,
        backward: AdjointSettings | Mapping[str, Any] | None = None,
    ) -> None:
        if len(input_shape) not in (2, 3):
            raise ArgumentError(
                f"input_shape={list(input_shape)} is no image: a convolution needs (height, width) "
                "or (channels, height, width). Choose model=implicit for other inputs."
            )
        given = {
            "channels": channels,
            "kernel_size": kernel_size,
            "input_kernel_size": input_kernel_size,
            "stride": stride,
            "groups": groups,
            "pool": pool,
            "readout_channels": readout_channels,
            "kappa": kappa,
            "dropout": dropout,
            "activation": activation,
        }
        check_options(ImplicitConvOptions, given)
        depth, height, width = input_shape if len(input_shape) == 3 else (1, *input_shape)
        scales = [
            Scale(count, -(-height // (stride << level)), -(-width // (stride << level)))
            for level, count in enumerate(channels)
        ]
        super().__init__(ConvolutionLinf(scales, kernel_size, kappa, groups=groups))
        self.input_shape = tuple(input_shape)
        self.output_dim = output_dim
        self.channels = tuple(channels)
        self.kernel_size, self.input_kernel_size = kernel_size, input_kernel_size
        self.stride, self.groups, self.pool = stride, groups, pool
        self.readout_channels = readout_channels
        self.kappa, self.dropout = kappa, dropout
        self.activation = get_activation(activation)
        self.forward_settings = settings_of(FixedPointSettings, forward, "forward")
        self.backward_settings = of_known_equation(
            settings_of(AdjointSettings, backward, "backward")
        )
        self._image = (depth, height, width)
        self._scales = tuple(scales)
        self._solve_statistics = SolveStatistics()
        self._graphs = StepGraphs() if cuda_graphs else None
        for level, count in enumerate(channels):
            kernel = torch.empty(count, depth, input_kernel_size, input_kernel_size)
            self.register_parameter(f"B_{level}", nn.Parameter(kernel))
            offsets = nn.Parameter(torch.empty(count)) if bias else None
            self.register_parameter(f"state_bias_{level}", offsets)
        self._states = Pooling(self._scales, pool)
        self.readout = (
            ReadoutLayer(scales, readout_channels, pool, self.activation)
            if readout_channels
            else None
        )
        self._pooling = self._states if self.readout is None else Pooling(self.readout.scales, pool)
        self.C = nn.Parameter(torch.empty(output_dim, self._pooling.features))
        self.output_bias = nn.Parameter(torch.empty(output_dim)) if bias else None
        self.reset_parameters()

    @property
    def input_dim(self) -> int:
        """Values of one image, p."""
        return prod(self.input_shape)

    @property
    def hidden_dim(self) -> int:
        """Number of states n: the pixels of all maps."""
        return sum(scale.states for scale in self._scales)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the parameters anew from torch's global generator; see the class for how."""
        self.reset_feedback()
        fan_in = self._image[0] * self.input_kernel_size**2
        for level in range(len(self._scales)):
            getattr(self, f"B_{level}").uniform_(-math.sqrt(3 / fan_in), math.sqrt(3 / fan_in))
            offsets = getattr(self, f"state_bias_{level}")
            if offsets is not None:
                offsets.uniform_(-1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))
        if self.readout is not None:
            self.readout.reset_parameters()
        bound = 1 / math.sqrt(self.C.shape[1])
        self.C.uniform_(-bound, bound)
        if self.output_bias is not None:
            self.output_bias.uniform_(-bound, bound)

    def forward(self, inputs: Tensor) -> Tensor:
        """Predict.

        Args:
            inputs: images (m, *input_shape), flattened ones included; dtype of the parameters.

        Returns:
            ŷ (m, q).

        Raises:
            ShapeError: the input has another size or dtype.
        """
        features = self.features(self.equilibrium(inputs))
        features = functional.dropout(features, self.dropout, self.training)
        return functional.linear(features, self.C, self.output_bias)

    def equilibrium(self, inputs: Tensor, *, start: Tensor | None = None) -> Tensor:
        """Return the equilibrium states x (m, n): the maps of all scales, each pixel by pixel.

        Args:
            inputs: images, as for the prediction.
            start: first iterates (m, n); φ(B∗u + b) where it is None.

        Raises:
            ShapeError: an argument has another size or dtype.
        """
        return outside_compiled_graphs(ImplicitConv._equilibrium, self, self.images(inputs), start)

    def maps(self, inputs: Tensor) -> list[Tensor]:
        """Return the equilibrium as maps (m, c, height, width), a tensor a scale."""
        return self._states.maps(self.equilibrium(inputs))

    @torch.no_grad()
    def dense_form(self) -> ImplicitModel:
        """Return the same model by its matrices, in float64: for small images, n² numbers.

        A, B and the biases are exact; the read-out's entries are divided by the pooled areas and
        added where these overlap, rounded to float64. The maps of a read-out layer are states too,
        which feed no others; scaled down, and read with the inverse, such that ‖A‖∞ ≤ κ.

        Raises:
            UnsupportedModelError: A alone would take more than a gigabyte, or ‖A‖∞ ≤ κ can't be
                had of the read-out layer, as φ is not positively homogeneous.
        """
        above = 0 if self.readout is None else self.readout.states
        n = self.hidden_dim + above
        if n * n * 8 > _LARGEST_MATRIX:
            raise UnsupportedModelError(
                f"the {n:,} states of {type(self).__name__} make a matrix of "
                f"{n * n * 8 / 2**30:.1f} GiB; use fewer channels or a larger stride"
            )
        exact = copy.deepcopy(self).double().eval()
        pixels = torch.eye(self.input_dim, dtype=torch.float64, device=self.C.device)
        constant = exact.injected(torch.zeros_like(pixels[:1]).reshape(1, *self._image))
        for level in range(len(self._scales)):
            if self.output_bias is not None:
                getattr(exact, f"state_bias_{level}").zero_()
        A = functional.pad(exact.operator().to_dense(), (0, above, 0, above))
        B = functional.pad(exact.injected(pixels.reshape(-1, *self._image)).t(), (0, 0, 0, above))
        b = functional.pad(constant[0], (0, above))
        read = torch.eye(above or n, dtype=torch.float64, device=self.C.device)
        C = (exact._pooling(read) @ exact.C.t()).t()
        if exact.readout is not None:
            weight, offset, scale = exact.readout.matrix(exact._states, self.kappa)
            A[self.hidden_dim :, : self.hidden_dim] = weight
            b[self.hidden_dim :] = offset
            C = functional.pad(C / scale, (self.hidden_dim, 0))
        return ImplicitModel.from_weights(
            A,
            B,
            C,
            state_bias=b,
            output_bias=exact.output_bias,
            activation=self.activation.name,
            kappa=self.kappa,
            forward=self.forward_settings,
            backward=self.backward_settings,
        )

    @property
    def solve_statistics(self) -> SolveStatistics:
        """The counts of this model's solves since their last reset."""
        return self._solve_statistics

    def constructor_arguments(self) -> dict[str, JSONValue]:
        """Return the keyword arguments that make a model of this architecture again."""
        return {
            "input_shape": list(self.input_shape),
            "output_dim": self.output_dim,
            "channels": list(self.channels),
            "kernel_size": self.kernel_size,
            "input_kernel_size": self.input_kernel_size,
            "stride": self.stride,
            "groups": self.groups,
            "pool": self.pool,
            "readout_channels": self.readout_channels,
            "kappa": self.kappa,
            "bias": self.output_bias is not None,
            "dropout": self.dropout,
            "cuda_graphs": self._graphs is not None,
            "activation": self.activation.name,
            "forward": asdict(self.forward_settings),
            "backward": asdict(self.backward_settings),
        }

    def extra_repr(self) -> str:
        """Return what ``print(model)`` shows."""
        sizes = ", ".join(f"{s.channels}x{s.height}x{s.width}" for s in self._scales)
        return (
            f"input_shape={self.input_shape}, output_dim={self.output_dim}, scales=[{sizes}], "
            f"kernel_size={self.kernel_size}, activation={self.activation.name}, "
            f"kappa={self.kappa:g}"
        )

    def images(self, inputs: Tensor) -> Tensor:
        """Return inputs (m, ...) as images (m, channels, height, width)."""
        if prod(inputs.shape[1:]) != self.input_dim:
            raise ShapeError(
                f"inputs of shape {tuple(inputs.shape)} are no images of shape {self.input_shape}."
            )
        return flat_inputs(inputs, self.input_dim, self.C.dtype).reshape(-1, *self._image)

    def features(self, states: Tensor) -> Tensor:
        """Return what is read out of states (m, n): averages over the fields, all scales in a row.

        They are those of the read-out layer's maps where there is one.
        """
        if self.readout is not None:
            states = self.readout(self._states.maps(states))
        return self._pooling(states)

    def _equilibrium(self, images: Tensor, start: Tensor | None) -> Tensor:
        with full_precision(images.device.type):
            dtype = solving_dtype(self.C.dtype)
            offset = self.injected(images.to(dtype))
            states = equilibrium(
                self.operator().to(dtype),
                offset,
                self.activation,
                forward=self.forward_settings,
                backward=self.backward_settings,
                start=None if start is None else start.to(dtype),
                statistics=self._solve_statistics,
                graphs=self._graphs,
            )
            return states.to(self.C.dtype)

    def injected(self, images: Tensor, *, magnitude: bool = False) -> Tensor:
        """Return B∗u + b (m, n) of all scales, in the order of the states.

        Args:
            images: u (m, channels, height, width).
            magnitude: |B|∗u instead: how far B∗u reaches where u differs by so much.
        """
        injected = []
        for level in range(len(self._scales)):
            kernel: Tensor = getattr(self, f"B_{level}")
            offsets: Tensor | None = getattr(self, f"state_bias_{level}")
            if magnitude:
                kernel, offsets = kernel.abs(), None
            maps = functional.conv2d(
                images.contiguous(memory_format=torch.channels_last),
                kernel.to(images.dtype),
                None if offsets is None else offsets.to(images.dtype),
                stride=self.stride << level,
                padding=self.input_kernel_size // 2,
            )
            injected.append(rows_of(maps))
        return torch.cat(injected, dim=1)
