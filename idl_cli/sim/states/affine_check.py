"""The affine maps between a network's activations: checked on numbers, and read off exactly.

A network whose hidden states x all pass through activation modules is an implicit model exactly
when every pre-activation and the output are affine in (x, u): z = A x + B u + a, y = C x + D u + c.
Making the network go on with states that we choose shows whether this holds (the map of a blend is
the blend of the maps), and a basis vector in place of a state gives a column of A and C.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from idl_cli.errors import UnsupportedModelError
from idl_cli.sim.states.hooks import Trace, trace

PROBE_SAMPLES = 8
BLEND = 0.375  # any number but 0 and 1; exact in binary
_PROBE_SEED = 20_220_919  # its own: a point that is a multiple of the user's data proves less


@dataclass(frozen=True)
class _Passage:
    """What entered and left one module of the network in one run."""

    name: str
    kind: str
    entered: Tensor
    left: Tensor


def _differs(blended: Tensor, first: Tensor, second: Tensor) -> bool:
    """Whether ``blended`` is more than rounding away from the blend of the other two.

    Rounding of a dot product grows with its terms, not its value; a thousand epsilons of the
    largest entry leaves room for that, and a kink moves values by their own size.
    """
    scale = max(float(t.abs().max()) if t.numel() else 0.0 for t in (first, second))
    expected = BLEND * first + (1 - BLEND) * second
    tolerance = 1e3 * torch.finfo(blended.dtype).eps * scale
    return bool(((blended - expected).abs() > tolerance).any())


def _watched(
    network: nn.Module,
    modules: Mapping[str, nn.Module],
    inputs: Tensor,
    states: Sequence[Tensor],
) -> list[_Passage]:
    """Everything that enters and leaves a module as one tensor, in the order of leaving."""
    passages: list[_Passage] = []
    entered: list[Tensor | None] = []
    with ExitStack() as handles:
        for name, module in network.named_modules():
            if name in modules:
                continue

            def before(module: nn.Module, args: tuple[object, ...]) -> None:
                value = args[0] if len(args) == 1 else None
                entered.append(value.clone() if isinstance(value, Tensor) else None)

            def after(
                module: nn.Module, args: tuple[object, ...], output: object, name: str = name
            ) -> None:
                value = entered.pop()
                if value is not None and isinstance(output, Tensor):
                    kind = type(module).__name__
                    passages.append(_Passage(name, kind, value, output.clone()))

            handles.callback(module.register_forward_pre_hook(before).remove)
            handles.callback(module.register_forward_hook(after).remove)
        trace(network, modules, inputs, states)
    return passages


def _culprit(runs: Sequence[list[_Passage]]) -> str:
    """The innermost module that turns blended inputs into something else than blended outputs."""
    for first, second, blended in zip(*runs, strict=True):
        if not blended.left.is_floating_point() or _differs(
            blended.entered, first.entered, second.entered
        ):
            continue
        if _differs(blended.left, first.left, second.left):
            where = f"module {blended.name!r}" if blended.name else "the forward of the network"
            return f"{where} ({blended.kind})"
    return "a function called in the network's forward"


def check_affine(network: nn.Module, modules: Mapping[str, nn.Module], inputs: Tensor) -> None:
    """Check that everything between activations is affine and treats each sample by itself.

    Args:
        network: the teacher, inside ``left_as_found``.
        modules: its activation modules by name.
        inputs: a batch; the first few samples are used.

    Raises:
        UnsupportedModelError: the check fails; the message names the module that fails it (a
            functional activation shows as the forward that calls it).
    """
    inputs = inputs[:PROBE_SAMPLES]
    recorded = trace(network, modules, inputs)
    states = [call.state for call in recorded.calls]
    generator = torch.Generator().manual_seed(_PROBE_SEED)
    other_inputs = _noise_like(inputs, generator)
    other_states = [_noise_like(x, generator) for x in states]
    points = [
        (inputs, states),
        (other_inputs, other_states),
        (
            BLEND * inputs + (1 - BLEND) * other_inputs,
            [BLEND * x + (1 - BLEND) * y for x, y in zip(states, other_states, strict=True)],
        ),
    ]
    first, second, blended = (_values(trace(network, modules, u, x)) for u, x in points)
    for name in blended:
        if _differs(blended[name], first[name], second[name]):
            culprit = _culprit([_watched(network, modules, u, x) for u, x in points])
            raise UnsupportedModelError(
                f"the teacher is not affine between its activations: {culprit} changes {name} "
                "nonlinearly, which no implicit model can express; write activations as modules "
                "(nn.ReLU() instead of F.relu) and leave out pooling by maximum, normalisation by "
                "the batch and attention, or name the states to match approximately "
                "(teacher.states=[...])"
            )
    half = (len(inputs) + 1) // 2
    fewer = _values(trace(network, modules, inputs[:half], [x[:half] for x in states]))
    for name, value in fewer.items():
        if _differs(value, first[name][:half], first[name][:half]):
            raise UnsupportedModelError(
                f"the teacher mixes the samples of a batch: {name} of a sample depends on its "
                "neighbours, which no implicit model can express"
            )


def _noise_like(values: Tensor, generator: torch.Generator) -> Tensor:
    """Normal noise of the values' shape and spread; of some spread even where they have none."""
    noise = torch.randn(values.shape, generator=generator).to(values)
    return noise * values.std(correction=0).clamp(min=1e-3)


def _values(run: Trace) -> dict[str, Tensor]:
    """Pre-activations and output of a run under the names that messages use."""
    values = {f"the input of {call.name!r}": call.pre_activation for call in run.calls}
    return {**values, "the output": run.outputs}


def offsets(
    network: nn.Module, modules: Mapping[str, nn.Module], inputs: Tensor
) -> tuple[list[Tensor], Tensor]:
    """What the network's biases add: (pre-activation offsets by call, output offset)."""
    zero_input = torch.zeros_like(inputs[:1])
    calls = trace(network, modules, zero_input).calls
    at_zero = trace(network, modules, zero_input, [torch.zeros_like(c.state) for c in calls])
    return [call.pre_activation[0] for call in at_zero.calls], at_zero.outputs[0]


def state_columns(
    network: nn.Module, modules: Mapping[str, nn.Module], inputs: Tensor, *, block: int, chunk: int
) -> Iterator[tuple[slice, list[Tensor]]]:
    """Columns of A that belong to the states of one activation call, a chunk at a time.

    Args:
        network: a teacher that ``check_affine`` accepts, inside ``left_as_found``.
        modules: its activation modules by name.
        inputs: any batch, for shape and dtype.
        block: which activation call, in order of the calls.
        chunk: columns at once: the memory of a forward pass of that many samples.

    Yields:
        The columns' positions inside the block, and by call the entries (columns, n_l).
    """
    start_offsets, _ = offsets(network, modules, inputs)
    sizes = [len(offset) for offset in start_offsets]
    for start in range(0, sizes[block], chunk):
        columns = slice(start, min(start + chunk, sizes[block]))
        count = columns.stop - columns.start
        states = [inputs.new_zeros(count, size) for size in sizes]
        states[block][torch.arange(count), torch.arange(columns.start, columns.stop)] = 1
        zero_inputs = inputs.new_zeros(count, *inputs.shape[1:])
        calls = trace(network, modules, zero_inputs, states).calls
        yield (
            columns,
            [call.pre_activation - o for call, o in zip(calls, start_offsets, strict=True)],
        )
