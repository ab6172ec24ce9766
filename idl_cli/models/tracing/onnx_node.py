"""One node of an ONNX graph, with what its inputs have become."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from idl_cli.errors import UnsupportedModelError
from idl_cli.models.tracing.expressions import Expression, States
from idl_cli.models.tracing.operations.table import OPERATIONS


@dataclass(frozen=True)
class Node:
    """One node of a graph.

    Attributes:
        states: of the network so far.
        inputs: expressions, arrays, or None where one is left out.
        attributes: by name.
        outputs: how many it has.
        batch: samples that the file fixes; None where it does not.
    """

    states: States
    inputs: Sequence[Any]
    attributes: Mapping[str, Any]
    outputs: int
    batch: int | None

    @property
    def value(self) -> Expression:
        """The first input, which has to depend on the network's."""
        if not isinstance(self.inputs[0], Expression):
            raise UnsupportedModelError("its first input is a constant")
        return self.inputs[0]

    def constant(self, number: int, attribute: str = "") -> Any:
        """An input that has to be constant, or the attribute of older versions; None without."""
        found = self.inputs[number] if len(self.inputs) > number else None
        if isinstance(found, Expression):
            raise UnsupportedModelError(f"its input {number} depends on the network's input")
        return self.attributes.get(attribute) if found is None else found

    def is_single(self, attribute: float, number: float) -> bool:
        """Whether a model in single precision cannot tell an attribute, itself single, from it."""
        return self.states.dtype == torch.float32 and np.float32(number) == attribute

    def torch(self, name: str, *arguments: Any) -> Any:
        """What torch's operation of that name does."""
        return OPERATIONS[name](self.states, *arguments)


Operator = Callable[[Node], Any]
