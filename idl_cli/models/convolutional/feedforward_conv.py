"""A convolution network as the implicit model that it is: kernels for the blocks of A and B."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from idl_cli.equilibrium.activations import get_activation
from idl_cli.errors import ArgumentError
from idl_cli.json_value import JSONValue
from idl_cli.models.activation_modules import activation_module
from idl_cli.models.base import TrainableModel, flat_inputs
from idl_cli.models.convolutional.layer_graph import LayerGraph
from idl_cli.models.convolutional.layer_shapes import IMAGE, LayerShape, Weights
from idl_cli.models.convolutional.sums import Entering, multiplied
from idl_cli.models.implicit import ImplicitModel


class FeedforwardConv(TrainableModel):
    """x = φ(Ax + Bu + b), ŷ = Cx + c, with feature maps as states and kernels as parameters.

    The states are the maps of all hidden layers, the last first: A is strictly block upper
    triangular, its blocks convolutions (or matrices, of fully connected layers) and, where maps are
    added as they are, identities; B is the convolution of the image. Averages over windows are part
    of the blocks behind them; with maxima a block is no matrix, but as feed-forward. No bound of A
    is needed, and one sweep, layer after layer, is the equilibrium, exactly ([IDL] El Ghaoui et
    al., SIAM J. Math. Data Sci. 3(3), 2021, section 3).

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
        shapes = tuple(map(LayerShape.from_fields, convolution_structure["layers"]))
        image = (1, *input_shape) if len(input_shape) == 2 else tuple(input_shape)
        self.graph = LayerGraph(image, shapes)
        if shapes[-1].outputs != output_dim:
            raise ArgumentError(
                f"output_dim={output_dim}, but the last layer has {shapes[-1].outputs} outputs"
            )
        self.layers = nn.ModuleList(
            shape.module(self.graph.shape_read(number)) for number, shape in enumerate(shapes)
        )
        self.phi = activation_module(self.activation.name)

    @property
    def input_dim(self) -> int:
        """Entries of one input, p."""
        return prod(self.input_shape)

    @property
    def hidden_dim(self) -> int:
        """Number of states n: the pixels of all maps."""
        return sum(map(prod, self.graph.sum_shapes[:-1]))

    @property
    def weights(self) -> list[Weights]:
        """The layers' modules in the order of computation."""
        return [each for each in self.layers if isinstance(each, Weights)]

    @property
    def sums(self) -> list[list[Weights]]:
        """The modules whose products add up to each layer of states, and to the outputs.

        Offsets are those of the last one of each.
        """
        modules = self.weights
        return [[modules[layer] for layer in group] for group in self.graph.groups]

    def forward(self, inputs: Tensor) -> Tensor:
        """Predict.

        Args:
            inputs: (m, *input_shape), flattened ones included; dtype of the parameters.

        Returns:
            ŷ (m, q).

        Raises:
            ShapeError: the input has another size or dtype.
        """
        return self.total(inputs, len(self.graph.groups) - 1)

    def total(self, inputs: Tensor, number: int) -> Tensor:
        """What a sum comes to (m, ...): pre-activations, or the outputs.

        Args:
            inputs: as for the prediction.
            number: of the sum, from 0; that of the outputs is the last.
        """
        known = self._known(inputs, number)
        return self._filled(self._sum(number, known), number, known)

    def entering(self, inputs: Tensor, number: int) -> Entering:
        """What a sum is made of, from the states before it.

        Args:
            inputs: as for the prediction.
            number: of the sum, from 0.
        """
        return self.entering_from(number, self._known(inputs, number))

    def evaluated(self, inputs: Tensor) -> Iterator[tuple[Entering, Tensor]]:
        """What enters each sum, and what it comes to (m, ...), one after another.

        Args:
            inputs: as for the prediction.
        """
        known = self.begun(inputs)
        for number in range(len(self.graph.groups)):
            entering = self.entering_from(number, known)
            yield entering, self.advance(number, known)

    def begun(self, inputs: Tensor) -> dict[int, Tensor]:
        """The maps that are known before the first sum, by layer: the image."""
        flat = flat_inputs(inputs, self.input_dim, self.weights[0].weight.dtype)
        return {IMAGE: flat.reshape(-1, *self.graph.image)}

    def advance(self, number: int, known: dict[int, Tensor]) -> Tensor:
        """What a sum comes to (m, ...); its states are then known, and maps read no more are not.

        Args:
            number: of the sum, from 0.
            known: the maps of the layers before it; changed in place.
        """
        total = self._filled(self._sum(number, known), number, known)
        known[self.graph.groups[number][-1]] = self.phi(total)
        for layer in [each for each in known if self.graph.last_reader(each) <= number]:
            del known[layer]
        return total

    def entering_from(self, number: int, known: Mapping[int, Tensor]) -> Entering:
        """What a sum is made of.

        Args:
            number: of the sum, from 0.
            known: the maps of the layers before it.
        """
        group = self.graph.groups[number]
        reads = [self.graph.reads[layer] for layer in group]
        added = [read.of(known[read.layer]) for read in self.graph.shapes[group[-1]].adds]
        return Entering(
            tuple(read.of(known[read.layer]) for read in reads),
            sum(added[1:], added[0]) if added else None,
        )

    def equilibrium(self, inputs: Tensor) -> Tensor:
        """Return the equilibrium states x (m, n) of the inputs, those of the last layer first."""
        return self.solve(self.injected(inputs))

    def injected(self, inputs: Tensor) -> Tensor:
        """Return Bu + b (m, n) of inputs as for the prediction."""
        known = self.begun(inputs)
        hidden = range(len(self.graph.groups) - 1)
        parts = [self._filled(self._sum(number, known), number, known) for number in hidden]
        return torch.cat([part.flatten(1) for part in parts[::-1]], dim=1)

    def solve(self, injected: Tensor) -> Tensor:
        """Return the x (m, n) with x = φ(Ax + e) for e (m, n), differentiable in e."""
        known: dict[int, Tensor] = {}
        for number, given in enumerate(self.blocks(injected)):
            fed = self._sum(number, known, bias=False)
            known[self.graph.groups[number][-1]] = self.phi(given if fed is None else fed + given)
        return torch.cat([maps.flatten(1) for maps in list(known.values())[::-1]], dim=1)

    def read_out(self, states: Tensor) -> Tensor:
        """Return Cx + c (m, q) of states (m, n)."""
        hidden = [group[-1] for group in self.graph.groups[:-1]]
        known = dict(zip(hidden, self.blocks(states), strict=True))
        last = len(self.graph.groups) - 1
        return self._filled(self._sum(last, known), last, known)

    def blocks(self, states: Tensor) -> list[Tensor]:
        """Return the maps (m, ...) that make up rows of states (m, n), the first layer first."""
        shapes = self.graph.sum_shapes[-2::-1]
        parts = states.split_with_sizes([prod(shape) for shape in shapes], dim=1)
        return [
            part.reshape(-1, *shape) for part, shape in zip(parts[::-1], shapes[::-1], strict=True)
        ]

    @torch.no_grad()
    def inf_norm_A(self) -> float:
        """Return ‖A‖∞, borders and all; 0 of a single hidden layer, which has no A.

        A bound of it where a sum reads the same maps twice, and behind poolings whose windows
        overlap or take maxima.
        """
        sizes = [module.weight.double().abs() for module in self.weights]
        ones: dict[int, Tensor] = {}
        largest = 0.0
        for group, shape in zip(self.graph.groups[:-1], self.graph.sum_shapes, strict=False):
            rows = [
                multiplied(self.weights[layer], read.of(ones[read.layer]), sizes[layer], None)
                for layer, read in ((layer, self.graph.reads[layer]) for layer in group)
                if read.layer in ones
            ]
            adds = self.graph.shapes[group[-1]].adds
            rows += [read.of(ones[read.layer]) for read in adds if read.layer in ones]
            if rows:
                largest = max(largest, float(sum(rows[1:], rows[0]).max()))
            ones[group[-1]] = sizes[0].new_ones(1, *shape)
        return largest

    @torch.no_grad()
    def dense_form(self) -> ImplicitModel:
        """Return the same model by its matrices, convolutions unrolled, in float64: n² numbers.

        A maximum over windows becomes further states.

        Raises:
            UnsupportedModelError: A is too large to be dense.
        """
        from idl_cli.models.tracing.network import from_network  # loads torch.fx

        return from_network(copy.deepcopy(self).double(), self.input_shape).to_dense()

    def to_sequential(self) -> nn.Sequential:
        """Return the layers and activations as torch's modules, on these very parameters.

        Raises:
            ArgumentError: the layers are more than a chain.
        """
        if not self.graph.is_chain:
            raise ArgumentError("poolings and sums of maps are no modules of a chain")
        modules: list[nn.Module] = [nn.Flatten(), nn.Unflatten(1, self.graph.image)]
        for number, module in enumerate(self.weights):
            if isinstance(module, nn.Linear):
                modules.append(nn.Flatten())
            modules += [module, self.phi] if number < len(self.layers) - 1 else [module]
        return nn.Sequential(*modules)

    def constructor_arguments(self) -> dict[str, JSONValue]:
        """Return the keyword arguments that make a model of this architecture again."""
        layers: list[JSONValue] = [shape.fields() for shape in self.graph.shapes]
        return {
            "input_shape": list(self.input_shape),
            "output_dim": self.output_dim,
            "convolution_structure": {"layers": layers, "activation": self.activation.name},
        }

    # -- sums ------------------------------------------------------------------------------------

    def _known(self, inputs: Tensor, until: int) -> dict[int, Tensor]:
        """The maps that the sum ``until`` and later ones read, by layer."""
        known = self.begun(inputs)
        for number in range(until):
            self.advance(number, known)
        return known

    def _sum(self, number: int, known: Mapping[int, Tensor], *, bias: bool = True) -> Tensor | None:
        """What the known maps contribute to a sum; None where they contribute nothing."""
        group, modules = self.graph.groups[number], self.weights
        parts = []
        for layer in group:
            read, module = self.graph.reads[layer], modules[layer]
            if read.layer in known:
                maps = read.of(known[read.layer])
                parts.append(multiplied(module, maps, module.weight, module.bias if bias else None))
        adds = self.graph.shapes[group[-1]].adds
        parts += [read.of(known[read.layer]) for read in adds if read.layer in known]
        return sum(parts[1:], parts[0]) if parts else None

    def _filled(self, total: Tensor | None, number: int, known: Mapping[int, Tensor]) -> Tensor:
        """The sum with the offsets of a layer whose maps are not known, and zeros for nothing."""
        layer = self.graph.groups[number][-1]
        shape, bias = self.graph.sum_shapes[number], self.weights[layer].bias
        if total is None:
            some = next(iter(known.values()))
            total = some.new_zeros(len(some), *shape)
        if bias is None or self.graph.reads[layer].layer in known:
            return total
        return total + bias.reshape(-1, *[1] * (len(shape) - 1))
