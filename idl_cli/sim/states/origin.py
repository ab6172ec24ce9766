"""What recorded statistics are of: a teacher, its states, and the samples it was shown.

Statistics of another teacher have the right shapes and give an optimal answer to the wrong problem,
so they say where they came from, and whoever takes them compares.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from idl_cli.data.dataset import Dataset
from idl_cli.data.fingerprint import Fingerprint, fingerprint
from idl_cli.data.split import Split
from idl_cli.sim.states.layout import StateRecorder


@dataclass(frozen=True)
class SampleOrigin:
    """Which samples were recorded.

    Attributes:
        arrays: of the training part, before preprocessing.
        preprocessing: plain values, see ``Preprocessing.to_dict``.
        drawn: which of them, in words.
    """

    arrays: Fingerprint
    preprocessing: Mapping[str, Any]
    drawn: str

    @classmethod
    def of(cls, dataset: Dataset, *, samples: int | None, seed: int) -> SampleOrigin:
        """Of the training part of a data set.

        Args:
            dataset: the data, with their preprocessing.
            samples: how many are drawn, None for all.
            seed: by which they are drawn; without effect on all.
        """
        train = dataset.train
        nothing = Split(train.inputs[:0], train.targets[:0])
        return cls(
            fingerprint(replace(dataset, validation=None, test=nothing)),
            dataset.preprocessing.to_dict(),
            "all samples" if samples is None else f"{samples} samples drawn with seed {seed}",
        )


@dataclass(frozen=True)
class Origin:
    """Where statistics came from. They are of raw states: rescaling is done anew by who takes them.

    Attributes:
        teacher: SHA-256 of the teacher's weights and buffers.
        states: the activation and the states recorded, in words.
        samples: None where the caller did not say; then nobody compares them.
    """

    teacher: str
    states: str
    samples: SampleOrigin | None = None

    @classmethod
    def of(cls, recorder: StateRecorder, samples: SampleOrigin | None = None) -> Origin:
        """Of what a recorder records."""
        layout = recorder.layout
        blocks = ", ".join(
            f"{n} {size}" for n, size in zip(layout.names, layout.sizes, strict=True)
        )
        kind = type(recorder.teacher).__name__
        return cls(
            digest_of({}, recorder.teacher.state_dict()),
            f"{layout.activation.name} of {kind}: {blocks}",
            samples,
        )

    def differences(self, other: Origin) -> list[str]:
        """What differs, in words; empty where both are of the same teacher and samples."""
        found = []
        if self.teacher != other.teacher:
            found.append("the teacher's weights")
        if self.states != other.states:
            found.append(f"the states ({self.states}; here {other.states})")
        mine, theirs = self.samples, other.samples
        if mine is None or theirs is None:
            return found
        if not mine.arrays.is_of_same_data(theirs.arrays):
            found.append("the training samples")
        if not _same(mine.preprocessing, theirs.preprocessing):
            found.append("the preprocessing")
        if mine.drawn != theirs.drawn:
            found.append(f"which samples ({mine.drawn}; here {theirs.drawn})")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Origin:
        """What ``to_dict`` gave, after JSON.

        Raises:
            KeyError, TypeError, ValueError: it is not that.
        """
        samples = values["samples"]
        if samples is not None:
            arrays = samples["arrays"]
            known = Fingerprint(
                samples=tuple(arrays["samples"]),
                exact=tuple(arrays["exact"]),
                sums=tuple((float(a), float(b)) for a, b in arrays["sums"]),
            )
            samples = SampleOrigin(known, samples["preprocessing"], samples["drawn"])
        return cls(values["teacher"], values["states"], samples)


def digest_of(metadata: Mapping[str, str], tensors: Mapping[str, Any]) -> str:
    """SHA-256 of named texts and tensors, their dtypes and shapes included, in any order of names.

    Entries that are no tensors (a module's extra state) count by their ``repr``.
    """
    digest = hashlib.sha256()
    for name in sorted(metadata):
        digest.update(f"{name!r}: {metadata[name]!r}\n".encode())
    for name in sorted(tensors):
        value = tensors[name]
        if not isinstance(value, Tensor):
            digest.update(f"{name!r}: {value!r}\n".encode())
            continue
        digest.update(f"{name!r}: {value.dtype} {tuple(value.shape)}\n".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _same(first: object, other: object) -> bool:
    """Whether plain values agree; real numbers to the rounding of a sum, lists and tuples alike."""
    if isinstance(first, Mapping) and isinstance(other, Mapping):
        return first.keys() == other.keys() and all(_same(first[k], other[k]) for k in first)
    if isinstance(first, list | tuple) and isinstance(other, list | tuple):
        return len(first) == len(other) and all(map(_same, first, other))
    if isinstance(first, float) and isinstance(other, float):
        return math.isclose(first, other, rel_tol=1e-9, abs_tol=1e-12)
    return first == other
