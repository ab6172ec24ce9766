"""A few figures by which processes find out whether they hold the same data."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from idl_cli.data.dataset import Dataset

_TOLERANCE = 1e-5
_RECORDED_TOLERANCE = 1e-10  # sums over the same numbers, added in another order
_BLOCK = 2**22  # numbers that are weighted at a time


@dataclass(frozen=True)
class Fingerprint:
    """What one process holds.

    Attributes:
        samples: of the training, validation and test part.
        exact: checksums of what is stored as whole numbers, such as pixels and classes.
        sums: of real numbers, two for each array: weighted by position, and of absolute values
            weighted so. Real numbers may have been computed, and machines round differently.
    """

    samples: tuple[int, ...]
    exact: tuple[int, ...]
    sums: tuple[tuple[float, float], ...]

    def is_of_same_data(self, other: Fingerprint, tolerance: float = _TOLERANCE) -> bool:
        """Whether both are of the same data: whole numbers to the bit, real ones to rounding."""
        return (
            self.samples == other.samples
            and self.exact == other.exact
            and len(self.sums) == len(other.sums)
            and all(
                _close(own, others, tolerance)
                for own, others in zip(self.sums, other.sums, strict=True)
            )
        )

    def is_what_was_recorded(self, recorded: Mapping[str, object]) -> bool:
        """Whether ``to_dict`` of the same data gave this: real numbers to the order of sums."""
        samples, exact, sums = (recorded.get(name) for name in ("samples", "exact", "sums"))
        if not (isinstance(samples, list) and isinstance(exact, list) and isinstance(sums, list)):
            return False
        if not all(isinstance(pair, list) and len(pair) == 2 for pair in sums):
            return False
        pairs = tuple((_number(pair[0]), _number(pair[1])) for pair in sums)
        other = Fingerprint(tuple(samples), tuple(exact), pairs)
        return self.is_of_same_data(other, _RECORDED_TOLERANCE)

    def to_dict(self) -> dict[str, object]:
        """Return the figures as plain JSON values."""
        return {
            "samples": list(self.samples),
            "exact": list(self.exact),
            "sums": [list(pair) for pair in self.sums],
        }


def fingerprint(dataset: Dataset) -> Fingerprint:
    """Look once at all samples of a data set, at about a gigabyte a second."""
    parts = (dataset.train, dataset.validation, dataset.test)
    arrays = [array for part in parts if part is not None for array in (part.inputs, part.targets)]
    scaling = dataset.task.target_scaling
    if scaling is not None:  # targets that are all doubled are the same ones when scaled
        arrays.append(torch.tensor((scaling.mean, scaling.std), dtype=torch.float64))
    return Fingerprint(
        samples=tuple(0 if part is None else len(part) for part in parts),
        exact=tuple(_checksum(array) for array in arrays if not array.is_floating_point()),
        sums=tuple(_sums(array) for array in arrays if array.is_floating_point()),
    )


def _checksum(array: Tensor) -> int:
    return zlib.crc32(array.cpu().contiguous().numpy().data)


def _sums(array: Tensor) -> tuple[float, float]:
    """Σ wᵢⱼ xᵢⱼ and Σ wᵢⱼ |xᵢⱼ| with weights from 1 to 2 that grow along samples and features."""
    rows = array.reshape(len(array), -1)
    if not rows.numel():
        return 0.0, 0.0
    count, width = rows.shape
    features = torch.linspace(1.0, 2.0, width, dtype=torch.float64)
    samples = torch.linspace(1.0, 2.0, count, dtype=torch.float64)
    signed, absolute = 0.0, 0.0
    for start in range(0, count, max(_BLOCK // width, 1)):
        block = slice(start, start + max(_BLOCK // width, 1))
        values = rows[block].cpu().double() * features
        signed += float(samples[block] @ values.sum(dim=1))
        absolute += float(samples[block] @ values.abs().sum(dim=1))
    return signed, absolute


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _close(first: Sequence[float], other: Sequence[float], tolerance: float) -> bool:
    if not all(map(math.isfinite, (*first, *other))):  # values that are missing, say
        return [math.isfinite(each) for each in first] == [math.isfinite(each) for each in other]
    limit = tolerance * max(first[1], other[1])
    return all(abs(own - others) <= limit for own, others in zip(first, other, strict=True))
