"""The layers that a network's activations close, in the order of computation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from idl_cli.equilibrium.conditions import MONOTONE
from idl_cli.errors import ArgumentError, UnsupportedModelError
from idl_cli.models.convolutional.feedforward_conv import FeedforwardConv
from idl_cli.models.convolutional.layer_shapes import IMAGE, LayerShape, Read
from idl_cli.models.convolutional.traced.values import Maps, Sum, Term, Value


class Layers:
    """Collects the sums of a network, each when its activation comes.

    Args:
        input_shape: of one input.

    Attributes:
        image: the input as maps.
        module: path of the module whose operation comes next.
        names: of the activation behind each sum: its module, with ``#2`` for a second call.
    """

    def __init__(self, input_shape: Sequence[int]) -> None:
        self._input_shape = tuple(input_shape)
        maps = (1, *input_shape) if len(input_shape) == 2 else tuple(input_shape)
        self.image = Maps(tuple(input_shape), Read(IMAGE), maps)
        self.module = ""
        self.names: list[str] = []
        self._activation: str | None = None
        self._shapes: list[LayerShape] = []
        self._weights: list[tuple[Tensor, Tensor | None]] = []
        self._used: set[int] = set()

    def activated(self, value: Value, name: str) -> Maps:
        """φ of a sum: new states.

        Args:
            value: the sum.
            name: of φ.

        Raises:
            UnsupportedModelError: it is no sum with weights of its own, or φ is another one than
                before.
        """
        where = f"activation {self.module!r}"
        if not isinstance(value, Sum) or not value.terms:
            raise UnsupportedModelError(f"{where} follows no layer with weights")
        if self._activation not in (None, name):
            raise UnsupportedModelError(
                f"the teacher mixes activations: {self._activation} before, {where} is {name}; an "
                "implicit model applies one activation to all its states"
            )
        if value.pools and name not in MONOTONE:
            raise UnsupportedModelError(
                f"{where}: maxima of pre-activations are none of the states, since {name} falls"
            )
        self._activation = name
        module = self.module or "network"
        calls = sum(each.partition("#")[0] == module for each in self.names)
        self.names.append(f"{module}#{calls + 1}" if calls else module)
        read = Read(self._closed(value), value.pools)
        # A maximum commutes with a φ that never falls, so that it is taken of the states.
        return Maps(value.shape, read, value.shape)

    def model(self, outputs: Value) -> FeedforwardConv:
        """The network as a model, float64.

        Args:
            outputs: its last sum.

        Raises:
            UnsupportedModelError: it is not the sum of a fully connected layer, or there are no
                hidden layers.
        """
        if not isinstance(outputs, Sum) or outputs.pools or not outputs.terms:
            raise UnsupportedModelError("the outputs are not those of a layer with weights")
        if self._activation is None:
            raise UnsupportedModelError("the teacher has no activation, so no hidden states")
        self._closed(outputs)
        layers = [shape.fields() for shape in self._shapes]
        try:
            with torch.random.fork_rng(devices=[]):  # what the weights begin with does not last
                found = FeedforwardConv(
                    self._input_shape,
                    self._shapes[-1].outputs,
                    convolution_structure={"layers": layers, "activation": self._activation},
                ).double()
        except ArgumentError as error:
            raise UnsupportedModelError(str(error)) from error
        with torch.no_grad():
            for module, (weight, bias) in zip(found.weights, self._weights, strict=True):
                module.weight.copy_(weight)
                if module.bias is not None:
                    assert bias is not None
                    module.bias.copy_(bias)
        return found

    def _closed(self, value: Sum) -> int:
        """Keep the layers of a sum; return the number of its last one, the largest."""
        for term in value.terms:
            if term.origin in self._used:
                raise UnsupportedModelError(f"layer {term.module!r} is used twice")
            self._used.add(term.origin)
        *joining, last = sorted(value.terms, key=lambda term: term.weight.numel())
        for term in joining:
            self._keep(term, replace(term.layer, joins=True), None)
        shape = replace(
            last.layer,
            bias=value.offset is not None,
            adds=tuple(maps.read for maps in value.adds),
        )
        self._keep(last, shape, value.offset)
        return len(self._shapes) - 1

    def _keep(self, term: Term, shape: LayerShape, offset: Tensor | None) -> None:
        self._shapes.append(shape)
        self._weights.append((term.weight, offset))
