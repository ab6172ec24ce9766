"""The layers of a convolution network as plain values: kernels, what each reads, what is added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from idl_cli.errors import ArgumentError
from idl_cli.json_value import JSONValue

Weights: TypeAlias = nn.Conv2d | nn.Linear
"""What a layer multiplies by: kernels, or a matrix over all entries of the maps."""
IMAGE = -1
"""The number that stands for the image where a layer is named by its number."""


@dataclass(frozen=True)
class Pool:
    """A fixed map of feature maps: the average or the maximum over windows.

    Args:
        kind: which of the two.
        kernel_size: height and width of the windows.
        stride: pixels from one window to the next, down and across.
        padding: rows and columns on each side, of zeros for averages, never the maximum.
        dilation: pixels between entries of a window; of maxima alone.
        ceil_mode: whether the last window may hang over.
        count_padding: whether an average divides by the padding's entries too.
    """

    kind: Literal["average", "maximum"]
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    ceil_mode: bool = False
    count_padding: bool = True

    def __call__(self, maps: Tensor) -> Tensor:
        """Pool maps (m, channels, height, width)."""
        windows = (self.kernel_size, self.stride, self.padding)
        if self.kind == "average":
            return functional.avg_pool2d(maps, *windows, self.ceil_mode, self.count_padding)
        return functional.max_pool2d(maps, *windows, self.dilation, self.ceil_mode)

    def output_shape(self, maps: Sequence[int]) -> tuple[int, ...]:
        """The shape that maps (channels, height, width) get."""
        try:
            return tuple(self(torch.empty(1, *maps, device="meta")).shape[1:])
        except RuntimeError as error:
            raise ArgumentError(
                f"a pooling {self.kernel_size} does not fit maps of {tuple(maps)}"
            ) from error


@dataclass(frozen=True)
class Read:
    """The maps of a layer, after its activation and poolings.

    Args:
        layer: its number; ``IMAGE`` for the image.
        pools: in their order.
    """

    layer: int
    pools: tuple[Pool, ...] = ()

    def of(self, maps: Tensor) -> Tensor:
        """Pool the layer's maps."""
        for pool in self.pools:
            maps = pool(maps)
        return maps

    def output_shape(self, maps: Sequence[int]) -> tuple[int, ...]:
        """The shape of what is read, of maps (channels, height, width)."""
        for pool in self.pools:
            maps = pool.output_shape(maps)
        return tuple(maps)


@dataclass(frozen=True)
class LayerShape:
    """One layer: a convolution with zero padding, or a fully connected one.

    Args:
        outputs: channels, or entries of a fully connected layer.
        bias: whether it has offsets.
        kernel_size: height and width of the kernels; None for a fully connected layer.
        stride: pixels from one place of the kernel to the next, down and across.
        padding: rows and columns of zeros on each side.
        dilation: pixels between entries of the kernel.
        reads: what it multiplies; None for the maps of the layer before it as they are.
        adds: maps that are added to its products as they are, such as a residual block's shortcut.
        joins: its products are no states, but a term of the sum that the next layer makes, such as
            those of a shortcut with weights.
    """

    outputs: int
    bias: bool
    kernel_size: tuple[int, int] | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    reads: Read | None = None
    adds: tuple[Read, ...] = ()
    joins: bool = False

    @classmethod
    def of(cls, module: Weights) -> LayerShape:
        """That of a torch module without groups and with padding in numbers."""
        bias = module.bias is not None
        if isinstance(module, nn.Linear):
            return cls(module.out_features, bias)
        places = (module.kernel_size, module.stride, module.padding, module.dilation)
        kernel, stride, padding, dilation = ((int(each[0]), int(each[1])) for each in places)
        return cls(module.out_channels, bias, kernel, stride, padding, dilation)

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> LayerShape:
        """That of plain values, as JSON holds them; fields that are not there have defaults."""
        found = _tuples(fields)
        if found.get("reads") is not None:
            found["reads"] = _read(found["reads"])
        found["adds"] = tuple(map(_read, found.get("adds", ())))
        return cls(**found)

    def fields(self) -> JSONValue:
        """Plain values, as JSON holds them."""
        return _plain(asdict(self))

    def module(self, maps: Sequence[int]) -> Weights:
        """A new module for maps (channels, height, width), or (entries,)."""
        if self.kernel_size is None:
            return nn.Linear(prod(maps), self.outputs, bias=self.bias)
        return nn.Conv2d(
            maps[0],
            self.outputs,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            bias=self.bias,
        )

    def output_shape(self, maps: Sequence[int]) -> tuple[int, ...]:
        """The shape that maps (channels, height, width), or (entries,), get."""
        if self.kernel_size is None:
            return (self.outputs,)
        if len(maps) != 3:
            raise ArgumentError(
                f"a convolution of inputs of shape {tuple(maps)}; it takes (channels, height, "
                "width), so that none may follow a fully connected layer"
            )
        sides = [
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, padding, dilation in zip(
                maps[1:], self.kernel_size, self.stride, self.padding, self.dilation, strict=True
            )
        ]
        if min(sides) < 1:
            raise ArgumentError(f"a kernel {self.kernel_size} does not fit maps of {tuple(maps)}")
        return (self.outputs, *sides)


def _read(fields: Read | Mapping[str, Any]) -> Read:
    if isinstance(fields, Read):
        return fields
    pools = fields.get("pools", ())
    return Read(
        fields["layer"],
        tuple(each if isinstance(each, Pool) else Pool(**_tuples(each)) for each in pools),
    )


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
    }


def _plain(value: Any) -> JSONValue:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    found: JSONValue = [_plain(each) for each in value] if isinstance(value, tuple) else value
    return found
