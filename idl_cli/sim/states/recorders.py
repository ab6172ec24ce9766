"""Recorders: one for networks with activation modules, one for implicit models."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from idl_cli.equilibrium.activations import get_activation
from idl_cli.errors import ArgumentError, IdlError, ShapeError, UnsupportedModelError
from idl_cli.models.implicit import ImplicitModel
from idl_cli.sim.states.affine_check import check_affine, offsets
from idl_cli.sim.states.hooks import (
    Trace,
    activation_modules,
    called_activation,
    left_as_found,
    trace,
    unknown_activations,
)
from idl_cli.sim.states.layout import (
    StateBatch,
    StateLayout,
    StateRecorder,
    on_device_of,
    require_finite,
)
from idl_cli.sim.statistics.block_matrix import WHOLE_FEATURES


@dataclass(frozen=True, eq=False)
class Probe:
    """A network to be looked at on numbers: the teacher, or a float32 copy of a half one.

    Rounding in half precision is as large as what a nonlinearity does: nothing could be told there.

    Attributes:
        network: the teacher or its copy.
        modules: its activation modules by name.
        inputs: a few samples in its dtype.
    """

    network: nn.Module
    modules: Mapping[str, nn.Module]
    inputs: Tensor

    @classmethod
    def of(cls, teacher: nn.Module, modules: Mapping[str, nn.Module], inputs: Tensor) -> Probe:
        """The teacher's.

        Raises:
            UnsupportedModelError: the teacher is in half precision and cannot be copied.
        """
        tensors = (inputs, *teacher.parameters(), *teacher.buffers())
        if not any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in tensors):
            return cls(teacher, modules, inputs)
        try:
            network = copy.deepcopy(teacher).float()
        except (RuntimeError, TypeError) as error:
            raise UnsupportedModelError(
                "the teacher is in half precision, where it cannot be checked, and cannot be copied"
                f" to float32 ({error}); hand in the teacher in float32"
            ) from error
        copied = {name: network.get_submodule(name) for name in modules}
        return cls(network, copied, inputs.float())


class NetworkRecorder(StateRecorder):
    """Records a network whose hidden states pass through activation modules.

    Args:
        teacher: any module that maps one tensor (m, ...) to outputs (m, q).
        inputs: a batch to look at the teacher with.
        names: the activation modules whose states to record, None for all. With a choice the
            network need not be affine between them: the states are matched approximately.
        max_features: largest D = n + p that there is room for.

    Raises:
        UnsupportedModelError: the network cannot be expressed; the message names the module.
        ShapeError: the network does not take such inputs.
    """

    def __init__(
        self,
        teacher: nn.Module,
        inputs: Tensor,
        names: Sequence[str] | None,
        max_features: int = WHOLE_FEATURES,
    ) -> None:
        self.teacher = teacher
        self.modules = activation_modules(teacher, names)
        self.is_exact = names is None
        self.probe = probe = Probe.of(teacher, self.modules, on_device_of(teacher, inputs[:8]))
        with left_as_found(probe.network):
            strangers = unknown_activations(probe.network) if self.is_exact else {}
            tapped = {**probe.modules, **strangers}
            with first_forward(probe.inputs):
                run = trace(probe.network, tapped, probe.inputs)
            for call in run.calls:
                require_finite(f"the input of activation {call.name!r}", call.pre_activation)
            if not run.calls:
                raise UnsupportedModelError(
                    f"the teacher never calls its activation modules ({', '.join(self.modules)})"
                )
            kind = called_activation(tapped, run)
            sizes = tuple(call.state.shape[1] for call in reversed(run.calls))
            features = sum(sizes) + probe.inputs[0].numel() + 1
            require_room(run, features, max_features)
            if self.is_exact:
                check_affine(probe.network, probe.modules, probe.inputs)
                state_offsets, output_offset = offsets(probe.network, probe.modules, probe.inputs)
                has_bias = any(bool((o != 0).any()) for o in (*state_offsets, output_offset))
            else:
                has_bias = True
        self.layout = StateLayout(
            names=tuple(call.name for call in reversed(run.calls)),
            sizes=sizes,
            input_dim=probe.inputs[0].numel(),
            output_dim=run.outputs.shape[1],
            has_bias=has_bias,
            activation=get_activation(kind),
        )
        self._check(StateBatch(self.features(probe.inputs), *_stacked(run)))

    def outputs(self, inputs: Tensor) -> Tensor:
        """Y (m, q), without a look at the states."""
        with left_as_found(self.teacher):
            found: Tensor = self.teacher(on_device_of(self.teacher, inputs))
        return found.detach()

    def _record(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return _stacked(trace(self.teacher, self.modules, inputs))


def _stacked(run: Trace) -> tuple[Tensor, Tensor, Tensor]:
    """Z, X and Y of a run, last layer first."""
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
        pre_activations = functional.linear(flat, weights.B, weights.state_bias)
        equilibria = self.model.solve(pre_activations)
        # The solver stops within its tolerance; one more step makes X = φ(Z) exact and leaves
        # Z = AX + BU + b within that tolerance.
        pre_activations = pre_activations + functional.linear(equilibria, weights.A)
        states = self.layout.activation.function(pre_activations)
        outputs = functional.linear(states, weights.C, weights.output_bias)
        return pre_activations, states, outputs + functional.linear(flat, weights.D)


def state_recorder(
    teacher: nn.Module,
    inputs: Tensor,
    *,
    names: Sequence[str] | None = None,
    max_features: int = WHOLE_FEATURES,
) -> StateRecorder:
    """The recorder for ``teacher``.

    Args:
        teacher: an implicit model, or a network whose hidden states pass through activation
            modules.
        inputs: a first batch (m, ...); a few samples suffice.
        names: activation modules to record, None for all; only for networks.
        max_features: largest D that there is room for; only for networks.

    Raises:
        ArgumentError: names were given for an implicit model, or the batch is empty or no real
            numbers.
        UnsupportedModelError, ShapeError, NonFiniteError: see the recorders.
    """
    if len(inputs) == 0:
        raise ArgumentError("the first batch of inputs is empty; states need at least one sample")
    if not inputs.is_floating_point():
        raise ArgumentError(
            f"the loader gives inputs of {inputs.dtype}; a state equation needs real inputs: "
            "convert them to floating point, or, for indices into an embedding, hand in the "
            "network behind the embedding with embedded inputs"
        )
    require_finite("the inputs", inputs)
    if isinstance(teacher, ImplicitModel):
        if names is not None:
            raise ArgumentError(
                f"states={list(names)} cannot be chosen for an implicit model; use states=null"
            )
        return ImplicitRecorder(teacher, inputs)
    return NetworkRecorder(teacher, inputs, names, max_features)


def require_room(run: Trace, feature_dim: int, max_features: int = WHOLE_FEATURES) -> None:
    """Refuse a problem whose Gram matrix would not fit, naming the activations to choose from."""
    if feature_dim <= max_features:
        return
    sizes = ", ".join(f"{call.name} ({call.state.shape[1]})" for call in run.calls)
    smallest = min(run.calls, key=lambda call: call.state.shape[1]).name
    raise UnsupportedModelError(
        f"states and inputs together have {feature_dim:,} entries, more than {max_features:,}: "
        f"their Gram matrix would take {8 * feature_dim**2 / 1e9:,.0f} GB; name fewer activations, "
        f"e.g. teacher.states=[{smallest}]; there are {sizes}"
    )


@contextmanager
def first_forward(inputs: Tensor) -> Iterator[None]:
    """Around a teacher's first call: say of which shape the inputs are that it does not take.

    Raises:
        ShapeError: torch refused them.
    """
    try:
        yield
    except IdlError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = str(error).partition("\n")[0]
        raise ShapeError(
            f"the teacher does not take inputs of shape {tuple(inputs.shape[1:])}: {reason}"
        ) from error
