"""Which layer reads which maps, and which products add up: the order of a network's computation."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from idl_cli.errors import ArgumentError
from idl_cli.models.convolutional.layer_shapes import IMAGE, LayerShape, Read


class LayerGraph:
    """Layers in the order of computation, checked to fit each other.

    A sum is what one activation is applied to, or the outputs: the products of one layer, of those
    before it that join it, and maps that are added as they are. In terms of x = φ(Ax + Bu + b) it
    is a block of rows.

    Args:
        image: (channels, height, width), or (entries,).
        shapes: of the layers.

    Attributes:
        groups: numbers of the layers of each sum; the states are known by the last one's.
        reads: of each layer.
        sum_shapes: (channels, height, width) or (entries,) of each sum.

    Raises:
        ArgumentError: the layers do not fit each other or the image.
    """

    def __init__(self, image: tuple[int, ...], shapes: tuple[LayerShape, ...]) -> None:
        self.image, self.shapes = image, shapes
        if len(shapes) < 2 or shapes[-1].kernel_size is not None or shapes[-1].joins:
            which = f", the last {vars(shapes[-1])}" if shapes else ""
            raise ArgumentError(
                f"{len(shapes)} layers{which}: at least one hidden layer, and a fully connected "
                "one for the outputs, are needed"
            )
        self.groups = _groups(shapes)
        self.reads: list[Read] = []
        self.sum_shapes: list[tuple[int, ...]] = []
        self._shapes = {IMAGE: image}
        before = IMAGE
        for group in self.groups:
            for layer in group:
                read = shapes[layer].reads
                self.reads.append(Read(before) if read is None else read)
                self._check_known(layer, self.reads[-1])
            made = {shapes[layer].output_shape(self.shape_read(layer)) for layer in group}
            for added in shapes[group[-1]].adds:
                self._check_known(group[-1], added)
                made.add(self.shape_of(added))
            if len(made) > 1:
                raise ArgumentError(f"layer {group[-1]}: it adds up maps of {sorted(made)}")
            for layer in group[:-1]:
                if shapes[layer].bias or shapes[layer].adds:
                    raise ArgumentError(
                        f"layer {layer}: offsets and what is added belong to the last layer of a "
                        "sum"
                    )
            before = group[-1]
            self.sum_shapes.append(made.pop())
            self._shapes[before] = self.sum_shapes[-1]
        last = [self.reads[layer] for layer in self.groups[-1]]
        if IMAGE in {read.layer for read in (*last, *shapes[-1].adds)}:
            raise ArgumentError("the last layer reads the image; it must read states")

    def shape_of(self, read: Read) -> tuple[int, ...]:
        """The shape of what is read."""
        return read.output_shape(self._shapes[read.layer])

    def shape_read(self, layer: int) -> tuple[int, ...]:
        """The shape of what a layer reads."""
        return self.shape_of(self.reads[layer])

    def last_reader(self, layer: int) -> int:
        """The number of the last sum that reads a layer's maps, −1 where none does."""
        return max(
            (
                number
                for number, group in enumerate(self.groups)
                if layer in {read.layer for read in self._all_reads(group)}
            ),
            default=-1,
        )

    @property
    def most_known(self) -> int:
        """Pixels of the maps that are known between two sums, where they are most."""
        firsts = {IMAGE: -1} | {group[-1]: number for number, group in enumerate(self.groups)}
        return max(
            sum(
                prod(self._shapes[layer])
                for layer, first in firsts.items()
                if first < number <= self.last_reader(layer)
            )
            for number in range(len(self.groups))
        )

    @property
    def is_chain(self) -> bool:
        """Whether each layer reads the one before it, and nothing else happens."""
        plain = [Read(layer - 1) for layer in range(len(self.shapes))]
        return self.reads == plain and not any(each.adds or each.joins for each in self.shapes)

    def _all_reads(self, group: Sequence[int]) -> list[Read]:
        return [*(self.reads[layer] for layer in group), *self.shapes[group[-1]].adds]

    def _check_known(self, layer: int, read: Read) -> None:
        if read.layer not in self._shapes:
            known = ", ".join(map(str, self._shapes))
            raise ArgumentError(
                f"layer {layer} reads layer {read.layer}, which has no states before it; those "
                f"that have: {known} ({IMAGE} is the image)"
            )


def _groups(shapes: Sequence[LayerShape]) -> list[tuple[int, ...]]:
    """Layers that join the next one, together with it."""
    found: list[tuple[int, ...]] = []
    group: tuple[int, ...] = ()
    for number, shape in enumerate(shapes):
        group = (*group, number)
        if not shape.joins:
            found.append(group)
            group = ()
    return found
