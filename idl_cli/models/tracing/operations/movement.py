"""Operations that move entries about, and copies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import torch

from idl_cli.errors import UnsupportedModelError
from idl_cli.models.tracing.expressions import Expression, States
from idl_cli.models.tracing.moves import moved
from idl_cli.models.tracing.operations.arguments import (
    Operation,
)


def _move(operation: Callable[..., Any]) -> Operation:
    def of_expression(states: States, value: Expression, *given: Any) -> Any:
        del states
        return moved(value, lambda numbers: operation(numbers, *given))

    return of_expression


def _pad(
    states: States, value: Expression, pad: Any, mode: str = "constant", fill: Any = None
) -> Any:
    del states
    return moved(
        value,
        lambda numbers: torch.nn.functional.pad(numbers, list(pad), mode),
        0.0 if fill is None or mode != "constant" else float(fill),
    )


def _constant_pad(states: States, value: Expression, pad: Any, fill: float = 0) -> Any:
    return _pad(states, value, pad, "constant", fill)


def _same(states: States, value: Expression, *given: Any) -> Expression:
    """A copy; to single or double precision too: the model computes in one."""
    del states
    for setting in given:
        if isinstance(setting, torch.dtype) and setting not in (torch.float32, torch.float64):
            raise UnsupportedModelError(f"a conversion to {setting}")
    return value


_MOVES: Final = (
    "alias",
    "channel_shuffle",
    "chunk",
    "expand",
    "flatten",
    "flip",
    "im2col",
    "index",
    "index_select",
    "movedim",
    "narrow",
    "numpy_T",
    "permute",
    "pixel_shuffle",
    "pixel_unshuffle",
    "repeat",
    "repeat_interleave",
    "reshape",
    "roll",
    "rot90",
    "select",
    "slice",
    "split",
    "split_with_sizes",
    "squeeze",
    "swapaxes",
    "swapdims",
    "t",
    "tensor_split",
    "tile",
    "transpose",
    "tril",
    "triu",
    "unbind",
    "unflatten",
    "unsafe_chunk",
    "unsafe_split",
    "unsqueeze",
    "upsample_nearest1d",
    "upsample_nearest2d",
    "view",
    "_unsafe_view",
    "unfold",
)

OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        **{
            name: _move(getattr(torch.ops.aten, name))
            for name in _MOVES
            if hasattr(torch.ops.aten, name)
        },
        **dict.fromkeys(
            ("clone", "contiguous", "detach", "to", "_to_copy", "lift_fresh_copy", "type_as"), _same
        ),
        "pad": _pad,
        "constant_pad_nd": _constant_pad,
    }
)
