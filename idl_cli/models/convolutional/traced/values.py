"""Values of a network of feature maps: maps that a layer can read, and sums of layers' products."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from idl_cli.errors import UnsupportedModelError
from idl_cli.models.convolutional.layer_shapes import LayerShape, Pool, Read


@dataclass(frozen=True, eq=False)
class Value(ABC):
    """What depends on the input.

    Attributes:
        shape: of one sample as the network has it: maps may be flattened, or an axis of 1 be gone.
    """

    shape: tuple[int, ...]

    @abstractmethod
    def reshaped(self, shape: Sequence[int]) -> Value:
        """The same entries in another shape."""


@dataclass(frozen=True, eq=False)
class Maps(Value):
    """States of a layer, or the image, pooled or as they are.

    Attributes:
        read: which.
        maps: their own shape, (channels, height, width) or (entries,).
    """

    read: Read
    maps: tuple[int, ...]

    def reshaped(self, shape: Sequence[int]) -> Maps:
        """Flattened, or back in their own shape.

        Raises:
            UnsupportedModelError: it is another shape.
        """
        shape = tuple(shape)
        if shape not in {self.maps, (prod(self.maps),), self.shape}:
            raise UnsupportedModelError(f"it makes {shape} of maps {self.maps}")
        return replace(self, shape=shape)

    def pooled(self, pool: Pool) -> Maps:
        """Behind one more pooling.

        Raises:
            UnsupportedModelError: these are no maps (any more).
        """
        self.require_maps()
        read = replace(self.read, pools=(*self.read.pools, pool))
        shape = pool.output_shape(self.maps)
        return Maps(shape, read, shape)

    def require_maps(self) -> None:
        """Refuse flattened ones."""
        if len(self.maps) != 3 or self.shape != self.maps:
            raise UnsupportedModelError(
                f"it takes (channels, height, width), and gets a sample of shape {self.shape}"
            )


@dataclass(frozen=True, eq=False)
class Term:
    """Products of one layer.

    Attributes:
        weight: (c_out, c_in, k_h, k_w) or (outputs, inputs), float64.
        layer: its geometry and what it reads.
        origin: where the network keeps the weight in memory: what is used twice is seen by it.
        module: path of the module that it stands in.
    """

    weight: Tensor
    layer: LayerShape
    origin: int
    module: str


@dataclass(frozen=True, eq=False)
class Sum(Value):
    """Terms, maps that are added as they are, and offsets; later pooled by maxima.

    Attributes:
        terms: with weights.
        adds: without.
        offset: (c_out,) float64; None where the network has no parameters for it.
        pools: maxima taken of the sum, which an activation that never falls lets pass.
    """

    terms: tuple[Term, ...] = ()
    adds: tuple[Maps, ...] = ()
    offset: Tensor | None = None
    pools: tuple[Pool, ...] = ()

    def reshaped(self, shape: Sequence[int]) -> Sum:
        """The same shape alone.

        Raises:
            UnsupportedModelError: it is another shape.
        """
        if tuple(shape) != self.shape:
            raise UnsupportedModelError("it stands between a layer and its activation")
        return self

    def plus(self, other: Value) -> Sum:
        """The sum with another, or with maps.

        Raises:
            UnsupportedModelError: their shapes differ, or maxima have been taken.
        """
        if self.shape != other.shape:
            raise UnsupportedModelError(f"it adds {other.shape} to {self.shape}")
        self.require_unpooled()
        if isinstance(other, Maps):
            if other.shape != other.maps:
                raise UnsupportedModelError(f"it adds maps {other.maps} as {other.shape}")
            return replace(self, adds=(*self.adds, other))
        assert isinstance(other, Sum)
        other.require_unpooled()
        offset = self.offset if other.offset is None else other.offset
        if self.offset is not None and other.offset is not None:
            offset = self.offset + other.offset
        return replace(
            self,
            terms=(*self.terms, *other.terms),
            adds=(*self.adds, *other.adds),
            offset=offset,
        )

    def scaled(self, factor: Tensor, shift: Tensor) -> Sum:
        """Each channel times its factor (c_out,), and its shift added: folded into the weights.

        Raises:
            UnsupportedModelError: maps are added as they are, or maxima have been taken.
        """
        self.require_unpooled()
        if self.adds:
            raise UnsupportedModelError("it scales a sum with maps that are added as they are")
        terms = tuple(
            replace(t, weight=t.weight * factor.reshape(-1, *[1] * (t.weight.dim() - 1)))
            for t in self.terms
        )
        offset = torch.zeros_like(shift) if self.offset is None else self.offset
        return replace(self, terms=terms, offset=offset * factor + shift)

    def require_unpooled(self) -> None:
        """Refuse a sum of which maxima have been taken."""
        if self.pools:
            raise UnsupportedModelError(
                "it stands between a pooling by maxima and the activation behind it"
            )
