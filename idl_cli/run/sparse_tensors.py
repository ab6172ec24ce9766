"""Tensors of many zeros as where the others are and what they are, bit for bit.

Which entries are kept is one bit each, compressed: a model's zeros lie in blocks (a feed-forward
network's A) or are most of it, and cost next to nothing then. Minus zero counts as a value.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from math import prod
from types import MappingProxyType
from typing import Final

import numpy as np
import torch
from torch import Tensor

from idl_cli.run.row_codes import coded, decoded

_BITS: Final = MappingProxyType({1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64})
_PLACES, _VALUES, _CODES, _STEPS = "places", "values", "codes", "steps"
_HEADER_BYTES = 256  # what a second tensor adds to a file


def packed(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, list[int]]]:
    """Tensors as they are best stored.

    Args:
        tensors: name → tensor of any dtype and shape, on the CPU.

    Returns:
        What to store, ``NAME.places`` and ``NAME.values`` in place of a tensor that gets smaller by
        it, ``NAME.codes`` and ``NAME.steps`` in place of the values where rows are multiples of a
        step (``row_codes``); and the shape of each of those, by name.
    """
    stored: dict[str, Tensor] = {}
    shapes: dict[str, list[int]] = {}
    for name, tensor in tensors.items():
        stored[name] = tensor
        if not tensor.is_floating_point():
            continue
        entries = tensor.contiguous().flatten()
        kept = entries.view(_BITS[entries.element_size()]) != 0
        values = entries[kept]
        places = zlib.compress(np.packbits(kept.numpy()).tobytes(), 9)
        parts = {_VALUES: values}
        codes = coded(tensor)
        if codes is not None and codes[1].nbytes + _HEADER_BYTES < values.nbytes - len(values):
            parts = {_CODES: codes[0].flatten()[kept], _STEPS: codes[1]}
        size = len(places) + sum(part.nbytes for part in parts.values()) + _HEADER_BYTES
        if size < entries.nbytes:
            del stored[name]
            stored[f"{name}.{_PLACES}"] = torch.frombuffer(bytearray(places), dtype=torch.uint8)
            stored |= {f"{name}.{part}": each for part, each in parts.items()}
            shapes[name] = list(tensor.shape)
    return stored, shapes


def unpacked(
    stored: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]]
) -> dict[str, Tensor]:
    """The tensors that ``packed`` was given.

    Raises:
        ValueError: places, values and shape of a tensor do not belong together.
        LookupError: one of them is missing.
    """
    tensors = dict(stored)
    for name, shape in shapes.items():
        places = tensors.pop(f"{name}.{_PLACES}")
        steps = tensors.pop(f"{name}.{_STEPS}", None)
        values = tensors.pop(f"{name}.{_VALUES if steps is None else _CODES}")
        count = prod(shape)
        reader = zlib.decompressobj()
        try:
            # No more than the shape asks for, whatever a foreign file would unpack to.
            mask = reader.decompress(places.numpy().tobytes(), max(1, -(-count // 8)))
            beyond = reader.decompress(reader.unconsumed_tail, 1)
        except zlib.error as error:
            raise ValueError(f"{name}: the places of its values are damaged ({error})") from error
        bits = np.unpackbits(np.frombuffer(mask, dtype=np.uint8))
        kept = torch.from_numpy(bits[:count].astype(bool))
        complete = reader.eof and not beyond and not bits[count:].any()
        if not complete or len(kept) != count or len(values) != kept.sum():
            raise ValueError(f"{name}: {len(values)} values do not fit its shape {list(shape)}")
        tensor = values.new_zeros(count)
        tensor[kept] = values
        tensor = tensor.view(*shape)
        if steps is not None and (len(shape) != 2 or len(steps) != shape[0]):
            raise ValueError(f"{name}: {len(steps)} steps do not fit its shape {list(shape)}")
        tensors[name] = tensor if steps is None else decoded(tensor, steps)
    return tensors
