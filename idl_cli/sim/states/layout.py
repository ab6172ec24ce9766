"""The states of a trained network: what state-driven training matches, one batch at a time.

A recorder knows one teacher. It checks once that the teacher can be expressed, then turns batches
of inputs into inputs U, pre-activations Z, states X = φ(Z) and outputs Y, and leaves the teacher as
it was found after every batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from idl_cli.equilibrium.activations import Activation
from idl_cli.errors import ArgumentError, NonFiniteError, ShapeError, UnsupportedModelError
from idl_cli.sim.states.hooks import left_as_found
from idl_cli.sim.statistics.batches import all_finite


@dataclass(frozen=True)
class StateLayout:
    """What the entries of a state vector are.

    Blocks stand last layer first, so that the A of a feed-forward teacher is strictly upper block
    triangular.

    Attributes:
        names: activation call behind each block.
        sizes: entries of each block, n_l.
        input_dim: entries of one flattened input, the constant not counted.
        output_dim: outputs, q.
        has_bias: whether the inputs carry a constant 1 as their last entry.
        activation: φ.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    input_dim: int
    output_dim: int
    has_bias: bool
    activation: Activation

    @property
    def state_dim(self) -> int:
        """Number of states, n."""
        return sum(self.sizes)

    @property
    def feature_dim(self) -> int:
        """Number of features of a row problem, D = n + p, the constant included."""
        return self.state_dim + self.input_dim + int(self.has_bias)


@dataclass(frozen=True)
class StateBatch:
    """States of one batch, one row a sample.

    Attributes:
        inputs: U (m, p), flattened; the last column is 1 where the layout has a bias.
        pre_activations: Z (m, n).
        states: X (m, n), X = φ(Z) to round-off.
        outputs: Y (m, q).
    """

    inputs: Tensor
    pre_activations: Tensor
    states: Tensor
    outputs: Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def first(self, count: int) -> StateBatch:
        """Those of the first samples."""
        return StateBatch(
            self.inputs[:count],
            self.pre_activations[:count],
            self.states[:count],
            self.outputs[:count],
        )


class StateRecorder(ABC):
    """Records the states of one teacher."""

    teacher: nn.Module
    layout: StateLayout

    @abstractmethod
    def _record(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Z, X and Y of one batch; called with the teacher in evaluation mode."""

    def record(self, inputs: Tensor) -> StateBatch:
        """The states of one batch.

        Args:
            inputs: (m, ...) as the teacher takes them; moved to the teacher's device.

        Raises:
            ShapeError: the teacher does not take inputs of this shape.
            NonFiniteError: inputs, states or outputs are NaN or infinite.
            UnsupportedModelError: X is not φ(Z), or the states changed between batches.
        """
        inputs = on_device_of(self.teacher, inputs)
        self.check_inputs(inputs)
        with left_as_found(self.teacher):
            pre_activations, states, outputs = self._record(inputs)
        batch = StateBatch(
            self.features(inputs), pre_activations.detach(), states.detach(), outputs.detach()
        )
        self._check(batch)
        return batch

    def check_inputs(self, inputs: Tensor) -> None:
        """Refuse a batch that is not finite, or of another size than the first.

        Raises:
            ShapeError, NonFiniteError: it is.
        """
        require_finite("the inputs", inputs)
        if inputs[0].numel() != self.layout.input_dim:
            raise ShapeError(
                f"inputs of shape {tuple(inputs.shape)} have {inputs[0].numel()} entries each, "
                f"the first batch had {self.layout.input_dim}"
            )

    def outputs(self, inputs: Tensor) -> Tensor:
        """Y (m, q) of one batch alone."""
        return self.record(inputs).outputs

    def features(self, inputs: Tensor) -> Tensor:
        """U of one batch: flattened inputs, with the constant 1 where the teacher has biases."""
        flat = inputs.flatten(1)
        if not self.layout.has_bias:
            return flat
        return torch.cat([flat, flat.new_ones(len(flat), 1)], dim=1)

    def _check(self, batch: StateBatch) -> None:
        layout = self.layout
        columns = (batch.pre_activations.shape[1], batch.outputs.shape[1])
        if columns != (layout.state_dim, layout.output_dim):
            raise UnsupportedModelError(
                f"the teacher gave {columns[0]} states and {columns[1]} outputs for one batch, "
                f"{layout.state_dim} and {layout.output_dim} for the first; their number must not "
                "depend on the input"
            )
        blocks = zip(layout.names, self.blocks(batch.pre_activations), strict=True)
        for name, block in reversed(list(blocks)):  # the first layer that fails is the cause
            require_finite(f"the input of activation {name!r}", block)
        require_finite("the teacher's outputs", batch.outputs)
        expected = layout.activation.function(batch.pre_activations)
        # One activation, evaluated twice: equal up to the last digits of its own arithmetic.
        tolerance = 16 * torch.finfo(expected.dtype).eps
        wrong = (batch.states - expected).abs() > tolerance * (1 + expected.abs())
        if wrong.any():
            sample, column = wrong.nonzero()[0].tolist()
            raise UnsupportedModelError(
                f"activation {self._block_of(column)!r} of the teacher does not compute "
                f"{layout.activation.name}: {float(batch.pre_activations[sample, column]):g} "
                f"became {float(batch.states[sample, column]):g}"
            )

    def blocks(self, states: Tensor) -> tuple[Tensor, ...]:
        """The columns (m, n_l) of each block of ``states`` (m, n)."""
        return torch.split(states, list(self.layout.sizes), dim=1)

    def _block_of(self, column: int) -> str:
        for name, size in zip(self.layout.names, self.layout.sizes, strict=True):
            if column < size:
                return name
            column -= size
        raise AssertionError("a column outside the layout")


def batches_of_inputs(
    loader: Iterable[Tensor | Sequence[Tensor]], samples: int | None
) -> Iterator[Tensor]:
    """The inputs of the loader's batches, up to ``samples`` of them (None: all).

    Raises:
        ArgumentError: a batch is neither inputs nor begins with them.
    """
    remaining = samples
    for batch in loader:
        if remaining is not None and remaining <= 0:
            return
        inputs = as_tensor(batch[0] if isinstance(batch, list | tuple) and batch else batch)
        if remaining is not None:
            inputs = inputs[:remaining]
            remaining -= len(inputs)
        if len(inputs):
            yield inputs


@dataclass(frozen=True, eq=False)
class InputBatches:
    """The same inputs at every pass, as often as wanted; see ``batches_of_inputs``."""

    loader: Iterable[Tensor | Sequence[Tensor]]
    samples: int | None

    def __iter__(self) -> Iterator[Tensor]:
        return batches_of_inputs(self.loader, self.samples)


def as_tensor(values: object) -> Tensor:
    """Values of a batch, a tensor or a NumPy array, as a tensor.

    Raises:
        ArgumentError: they are something else.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        return torch.from_numpy(np.ascontiguousarray(values))
    if not isinstance(values, Tensor):
        what = (
            f"an array of {values.dtype}"
            if isinstance(values, np.ndarray)
            else type(values).__name__
        )
        raise ArgumentError(
            f"the loader gives {what}; taken are batches of inputs (m, ...), or tuples and lists "
            "(inputs, targets, ...), of tensors or NumPy arrays of numbers: hand in a loader that "
            "gives those, such as one that picks the inputs out of a dictionary"
        )
    if values.ndim == 0:
        raise ArgumentError("the loader gives a single number; a batch has samples (m, ...)")
    return values


def require_finite(what: str, values: Tensor) -> None:
    """Raise NonFiniteError, naming the first sample, when ``values`` holds NaN or infinity."""
    if not all_finite(values):
        sample = int((~values.isfinite().flatten(1).all(dim=1)).nonzero()[0, 0])
        raise NonFiniteError(
            f"{what} holds NaN or infinite values (first in sample {sample} of a batch); "
            "look at the data and at the teacher's weights"
        )


def on_device_of(teacher: nn.Module, inputs: Tensor) -> Tensor:
    """The inputs where the teacher is, in the dtype of its first real weights.

    Integers keep theirs, and a teacher without weights takes what it is given.
    """
    real = (each for each in teacher.parameters() if each.is_floating_point())
    parameter = next(real, None)
    if parameter is None:
        return inputs
    return inputs.to(parameter.device, parameter.dtype if inputs.is_floating_point() else None)
