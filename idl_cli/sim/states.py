"""The states of a trained network: what state-driven training matches, one batch at a time.

A recorder knows one teacher. It checks once that the teacher can be expressed, then turns batches
of inputs into inputs U, pre-activations Z, states X = φ(Z) and outputs Y, and leaves the teacher as
it was found after every batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from idl_cli.equilibrium.activations import Activation, get_activation
from idl_cli.equilibrium.implicit_gradient import equilibrium
from idl_cli.errors import ArgumentError, NonFiniteError, ShapeError, UnsupportedModelError
from idl_cli.models.activation_modules import activation_name
from idl_cli.models.implicit import ImplicitModel
from idl_cli.sim.affine import check_affine, offsets
from idl_cli.sim.hooks import Trace, activation_modules, left_as_found, trace

MAX_FEATURES = 20_000
"""Largest D = n + p: the Gram matrix of 20,000 features takes 3.2 GB, its factorisation as much."""


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
        inputs = _on_device_of(self.teacher, inputs)
        require_finite("the inputs", inputs)
        if inputs[0].numel() != self.layout.input_dim:
            raise ShapeError(
                f"inputs of shape {tuple(inputs.shape)} have {inputs[0].numel()} entries each, "
                f"the first batch had {self.layout.input_dim}"
            )
        with left_as_found(self.teacher):
            pre_activations, states, outputs = self._record(inputs)
        batch = StateBatch(
            self.features(inputs), pre_activations.detach(), states.detach(), outputs.detach()
        )
        self._check(batch)
        return batch

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


class NetworkRecorder(StateRecorder):
    """Records a network whose hidden states pass through activation modules.

    Args:
        teacher: any module that maps one tensor (m, ...) to outputs (m, q).
        inputs: a batch to look at the teacher with.
        names: the activation modules whose states to record, None for all. With a choice the
            network need not be affine between them: the states are matched approximately.

    Raises:
        UnsupportedModelError: the network cannot be expressed; the message names the module.
        ShapeError: the network does not take such inputs.
    """

    def __init__(self, teacher: nn.Module, inputs: Tensor, names: Sequence[str] | None) -> None:
        self.teacher = teacher
        self.modules = activation_modules(teacher, names)
        self.probe_inputs = _on_device_of(teacher, inputs[:8])
        self.is_exact = names is None
        with left_as_found(teacher):
            run = _first_forward(teacher, self.modules, self.probe_inputs)
            for call in run.calls:
                require_finite(f"the input of activation {call.name!r}", call.pre_activation)
            if not run.calls:
                raise UnsupportedModelError(
                    f"the teacher never calls its activation modules ({', '.join(self.modules)})"
                )
            kind = activation_name(next(iter(self.modules.values())))
            assert kind is not None
            sizes = tuple(call.state.shape[1] for call in reversed(run.calls))
            require_room(run, sum(sizes) + self.probe_inputs[0].numel() + 1)
            if self.is_exact:
                check_affine(teacher, self.modules, self.probe_inputs)
                state_offsets, output_offset = offsets(teacher, self.modules, self.probe_inputs)
                has_bias = any(bool((o != 0).any()) for o in (*state_offsets, output_offset))
            else:
                has_bias = True
        self.layout = StateLayout(
            names=tuple(call.name for call in reversed(run.calls)),
            sizes=sizes,
            input_dim=self.probe_inputs[0].numel(),
            output_dim=run.outputs.shape[1],
            has_bias=has_bias,
            activation=get_activation(kind),
        )

    def _record(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        run = _first_forward(self.teacher, self.modules, inputs)
        calls = run.calls[::-1]
        return (
            torch.cat([call.pre_activation for call in calls], dim=1),
            torch.cat([call.state for call in calls], dim=1),
            run.outputs,
        )


class ImplicitRecorder(StateRecorder):
    """Records the equilibria of an implicit model.

    Args:
        teacher: the model.
        inputs: a batch of its inputs.
    """

    def __init__(self, teacher: ImplicitModel, inputs: Tensor) -> None:
        self.teacher = self.model = teacher
        if inputs[0].numel() != teacher.input_dim:
            raise ShapeError(
                f"inputs of shape {tuple(inputs.shape)} have {inputs[0].numel()} entries each, "
                f"the teacher takes {teacher.input_dim}"
            )
        weights = teacher.effective_weights()
        self.layout = StateLayout(
            names=("equilibrium",),
            sizes=(teacher.hidden_dim,),
            input_dim=teacher.input_dim,
            output_dim=teacher.output_dim,
            has_bias=bool(weights.state_bias.any()) or bool(weights.output_bias.any()),
            activation=teacher.activation,
        )

    def _record(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weights = self.model.effective_weights()
        flat = inputs.flatten(1)
        # Solved beside the model, not by it, so that its counts of solves stay as they were.
        equilibria = equilibrium(
            self.model.operator(),
            functional.linear(flat, weights.B, weights.state_bias),
            self.layout.activation,
            forward=self.model.forward_settings,
            backward=self.model.backward_settings,
        )
        # The solver stops within its tolerance; one more step makes X = φ(Z) exact and leaves
        # Z = AX + BU + b within that tolerance.
        pre_activations = functional.linear(flat, weights.B, weights.state_bias)
        pre_activations = pre_activations + functional.linear(equilibria, weights.A)
        states = self.layout.activation.function(pre_activations)
        outputs = functional.linear(states, weights.C, weights.output_bias)
        return pre_activations, states, outputs + functional.linear(flat, weights.D)


def state_recorder(
    teacher: nn.Module, inputs: Tensor, *, names: Sequence[str] | None = None
) -> StateRecorder:
    """The recorder for ``teacher``.

    Args:
        teacher: an implicit model, or a network whose hidden states pass through activation
            modules.
        inputs: a first batch (m, ...); a few samples suffice.
        names: activation modules to record, None for all; only for networks.

    Raises:
        ArgumentError: names were given for an implicit model, or the batch is empty.
        UnsupportedModelError, ShapeError, NonFiniteError: see the recorders.
    """
    if len(inputs) == 0:
        raise ArgumentError("the first batch of inputs is empty; states need at least one sample")
    require_finite("the inputs", inputs)
    if isinstance(teacher, ImplicitModel):
        if names is not None:
            raise ArgumentError(
                f"states={list(names)} cannot be chosen for an implicit model; use states=null"
            )
        return ImplicitRecorder(teacher, inputs)
    return NetworkRecorder(teacher, inputs, names)


def batches_of_inputs(
    loader: Iterable[Tensor | Sequence[Tensor]], samples: int | None
) -> Iterator[Tensor]:
    """The inputs of the loader's batches, up to ``samples`` of them (None: all)."""
    remaining = samples
    for batch in loader:
        if remaining is not None and remaining <= 0:
            return
        inputs = batch if isinstance(batch, Tensor) else batch[0]
        if remaining is not None:
            inputs = inputs[:remaining]
            remaining -= len(inputs)
        if len(inputs):
            yield inputs


def require_finite(what: str, values: Tensor) -> None:
    """Raise NonFiniteError, naming the first sample, when ``values`` holds NaN or infinity."""
    finite = values.isfinite()
    if not bool(finite.all()):
        sample = int((~finite.flatten(1).all(dim=1)).nonzero()[0, 0])
        raise NonFiniteError(
            f"{what} holds NaN or infinite values (first in sample {sample} of a batch); "
            "look at the data and at the teacher's weights"
        )


def require_room(run: Trace, feature_dim: int) -> None:
    """Refuse a problem whose Gram matrix would not fit, naming the activations to choose from."""
    if feature_dim <= MAX_FEATURES:
        return
    sizes = ", ".join(f"{call.name} ({call.state.shape[1]})" for call in run.calls)
    smallest = min(run.calls, key=lambda call: call.state.shape[1]).name
    raise UnsupportedModelError(
        f"states and inputs together have {feature_dim:,} entries, more than {MAX_FEATURES:,}: "
        f"their Gram matrix would take {8 * feature_dim**2 / 1e9:,.0f} GB; name fewer activations, "
        f"e.g. teacher.states=[{smallest}]; there are {sizes}"
    )


def _on_device_of(teacher: nn.Module, inputs: Tensor) -> Tensor:
    parameter = next(teacher.parameters(), None)
    if parameter is None or not inputs.is_floating_point():
        return inputs
    return inputs.to(parameter.device, parameter.dtype)


def _first_forward(teacher: nn.Module, modules: dict[str, nn.Module], inputs: Tensor) -> Trace:
    try:
        return trace(teacher, modules, inputs)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise ShapeError(
            f"the teacher does not take inputs of shape {tuple(inputs.shape[1:])}: {reason}"
        ) from error
