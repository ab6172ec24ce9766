"""Read, or replace, what passes through a network's activations; leave it as it was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from idl_cli.errors import UnsupportedModelError
from idl_cli.models.activation_modules import (
    activation_name,
    applies_activation,
    why_unknown,
)


@dataclass(frozen=True)
class ActivationCall:
    """What one call of an activation module took in and gave out, copies, flattened to (m, n_l).

    Attributes:
        module: the module's name.
        name: the same; later calls of the same module are ``name#2``, ``name#3``, …
        pre_activation: the input, copied before the module could overwrite it in place.
        state: the output.
        shape: the shape of one sample's output.
    """

    module: str
    name: str
    pre_activation: Tensor
    state: Tensor
    shape: tuple[int, ...]


@dataclass
class Trace:
    """One forward pass: the activation calls in order of the calls, and the output (m, q)."""

    calls: list[ActivationCall] = field(default_factory=list)
    outputs: Tensor = field(default_factory=lambda: torch.empty(0))


def activation_modules(network: nn.Module, names: Sequence[str] | None) -> dict[str, nn.Module]:
    """The activation modules of ``network`` by name, or just the ones in ``names``.

    Raises:
        UnsupportedModelError: there are none, or a name is no module or no known activation.
    """
    modules = dict(network.named_modules())
    known = {name: kind for name in modules if (kind := activation_name(modules[name])) is not None}
    if not known:
        for name, module in unknown_activations(network).items():
            raise UnsupportedModelError(f"activation {name!r} of the teacher {why_unknown(module)}")
        raise UnsupportedModelError(
            f"the teacher ({type(network).__name__}) has no activation modules, so it has no hidden"
            " states to record; write its activations as modules (nn.ReLU() instead of F.relu)"
        )
    for name in names or ():
        if name not in known:
            what = "is no activation known here" if name in modules else "is no module"
            raise UnsupportedModelError(
                f"states name {name!r}, which {what} of the teacher; its activations are "
                f"{', '.join(known)}"
            )
    return {name: modules[name] for name in known if names is None or name in names}


def unknown_activations(network: nn.Module) -> dict[str, nn.Module]:
    """The modules of ``network`` that apply an activation which none of ours is, by name."""
    return {
        name: module
        for name, module in network.named_modules()
        if applies_activation(module) and activation_name(module) is None
    }


def called_activation(modules: Mapping[str, nn.Module], run: Trace) -> str:
    """The name of the one activation that a run calls; modules that it never calls do not count.

    Args:
        modules: that the run was traced with.
        run: with at least one call.

    Raises:
        UnsupportedModelError: it calls different ones, or one that is unknown; named.
    """
    first: tuple[str, str] | None = None
    for call in run.calls:
        kind = activation_name(modules[call.module])
        if kind is None:
            raise UnsupportedModelError(
                f"activation {call.module!r} of the teacher {why_unknown(modules[call.module])}"
            )
        if first is None:
            first = call.module, kind
        if kind != first[1]:
            raise UnsupportedModelError(
                f"the teacher mixes activations: {first[0]!r} is {first[1]}, {call.module!r} is "
                f"{kind}; an implicit model applies one activation to all its states"
            )
    assert first is not None
    return first[1]


@contextmanager
def left_as_found(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients; afterwards every mode and the random state are as before."""
    modes = [(module, module.training) for module in network.modules()]
    devices = sorted({p.device.index or 0 for p in network.parameters() if p.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            network.eval()
            yield
    finally:
        for module, training in modes:
            module.training = training


class _Tap:
    """Hooks of one forward pass: copy what passes, or hand out ``replacements`` instead."""

    def __init__(self, samples: int, replacements: Sequence[Tensor] | None) -> None:
        self.samples = samples
        self.replacements = replacements
        self.trace = Trace()
        self._counts: dict[str, int] = {}
        self._pending: list[Tensor] = []

    def before(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        values = [*args, *kwargs.values()]
        if not values or not isinstance(values[0], Tensor):
            raise UnsupportedModelError(f"activation {name!r} of the teacher was given no tensor")
        self._pending.append(values[0].clone())

    def after(self, name: str, output: Tensor) -> Tensor | None:
        before = self._pending.pop()
        if before.shape != output.shape or output.ndim < 2 or output.shape[0] != self.samples:
            raise UnsupportedModelError(
                f"activation {name!r} of the teacher takes {tuple(before.shape)} and gives "
                f"{tuple(output.shape)} for {self.samples} samples; a state needs one row a sample "
                "(m, ...) on both sides"
            )
        count = self._counts[name] = self._counts.get(name, 0) + 1
        replaced: Tensor | None = None
        if self.replacements is not None:
            replaced = self.replacements[len(self.trace.calls)].reshape(output.shape).clone()
        state = (output if replaced is None else replaced).clone()
        self.trace.calls.append(
            ActivationCall(
                name,
                name if count == 1 else f"{name}#{count}",
                before.flatten(1),
                state.flatten(1),
                tuple(output.shape[1:]),
            )
        )
        return replaced


def _attach(tap: _Tap, name: str, module: nn.Module) -> list[RemovableHandle]:
    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tap.before(name, args, kwargs)

    def after(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        return tap.after(name, output)

    return [
        module.register_forward_pre_hook(before, with_kwargs=True),
        module.register_forward_hook(after),
    ]


def trace(
    network: nn.Module,
    modules: Mapping[str, nn.Module],
    inputs: Tensor,
    replacements: Sequence[Tensor] | None = None,
) -> Trace:
    """Run ``network`` on ``inputs`` and return what passed through ``modules``.

    Args:
        network: any module that maps one tensor (m, ...) to one tensor (m, q); call this inside
            ``left_as_found``.
        modules: the activation modules to tap, by name.
        inputs: one batch, samples first.
        replacements: states (m, n_l) in order of the calls, which the network is made to continue
            with instead of its own; None only reads.

    Raises:
        UnsupportedModelError: a state or the output has no row for each sample.
    """
    tap = _Tap(len(inputs), replacements)
    with ExitStack() as handles:
        for name, module in modules.items():
            for handle in _attach(tap, name, module):
                handles.callback(handle.remove)
        outputs = network(inputs)
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != len(inputs):
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise UnsupportedModelError(
            f"the teacher ({type(network).__name__}) returns {shape} for {len(inputs)} samples; "
            "it must return one tensor (samples, outputs)"
        )
    tap.trace.outputs = outputs
    return tap.trace
