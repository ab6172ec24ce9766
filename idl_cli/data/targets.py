"""From targets as a user stores them to class indices or real numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from idl_cli.data.array_files import RawPart
from idl_cli.data.task import TaskKind
from idl_cli.errors import ConfigError, DataError

_LAST_CHARACTER: Final = 0x10FFFF
_SURROGATES: Final = (0xD800, 0xDFFF)


@dataclass(frozen=True)
class EncodedTargets:
    """Targets of all parts, in the form a ``Split`` holds.

    Args:
        kind: classification or regression.
        targets: part name to class indices (m,) int64, or real targets (m, q).
        output_dim: number of classes, or q.
        class_names: names of the classes where the targets were text.
    """

    kind: TaskKind
    targets: Mapping[str, Tensor]
    output_dim: int
    class_names: tuple[str, ...] | None


def encode_targets(
    parts: Mapping[str, RawPart], kind: Literal["auto", "classification", "regression"]
) -> EncodedTargets:
    """Decide the task and encode the targets of every part alike.

    Args:
        parts: what was read, ``train`` among it.
        kind: auto goes by the type of the training targets: integers, booleans and text are
            classes, real numbers are not.

    Raises:
        DataError: targets of another type or shape, not finite, or labels that are not
            0 … K-1 with every class among the training samples.
        ConfigError: ``kind`` does not fit the targets.
    """
    train = parts["train"].targets
    if kind == "auto":
        kind = "regression" if train.dtype.kind == "f" else "classification"
    if kind == "regression":
        real = {name: _real(part) for name, part in parts.items()}
        output_dim = int(real["train"].shape[1])
        for name, values in real.items():
            if values.shape[1] != output_dim:
                raise DataError(
                    f"{parts[name].targets_name}: {values.shape[1]} targets a sample, but"
                    f" {output_dim} in {parts['train'].targets_name}"
                )
        return EncodedTargets("regression", real, output_dim, None)
    if train.dtype.kind in "US":
        names = np.unique(_column(parts["train"]))
        indices = {name: _named(part, names) for name, part in parts.items()}
        class_names = tuple(str(name) for name in names.astype(np.str_))
        return _classification(parts, indices, class_names)
    return _classification(parts, {name: _indices(part) for name, part in parts.items()}, None)


def _classification(
    parts: Mapping[str, RawPart],
    indices: Mapping[str, npt.NDArray[np.int64]],
    class_names: tuple[str, ...] | None,
) -> EncodedTargets:
    present = np.unique(indices["train"])
    classes = int(present[-1]) + 1
    if len(present) < 2:
        raise DataError(
            f"{parts['train'].targets_name}: all samples have the same class; two are needed"
        )
    if len(present) < classes:
        absent = int(np.flatnonzero(present != np.arange(len(present)))[0])
        raise DataError(
            f"{parts['train'].targets_name}: the largest label is {classes - 1}, but no sample has"
            f" label {absent}; labels must be 0 to K-1, each with a sample: renumber them, e.g."
            " with numpy.unique(targets, return_inverse=True)"
        )
    for name, labels in indices.items():
        outside = labels >= classes
        if outside.any():
            position = int(outside.argmax())
            raise DataError(
                f"{parts[name].targets_name}: label {labels[position]} of sample {position} is not"
                f" a class of the training samples: 0 to {classes - 1} are"
            )
    encoded = {name: torch.from_numpy(labels) for name, labels in indices.items()}
    return EncodedTargets("classification", encoded, classes, class_names)


def _column(part: RawPart) -> npt.NDArray[np.generic]:
    values = part.targets
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(
            f"{part.targets_name}: class labels of shape {part.targets.shape}, where one a sample"
            " is needed (one-hot rows: pass their argmax)"
        )
    return _text(values, part.targets_name) if values.dtype.kind in "US" else values


def _text(values: npt.NDArray[np.generic], name: str) -> npt.NDArray[np.str_]:
    """Names as text that can be written anywhere, from bytes in UTF-8 too."""
    if values.dtype.kind == "S":
        try:
            return np.char.decode(values.astype(np.bytes_), "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{name}: a class name is no text in UTF-8 ({error}); save the names as text, such"
                " as numpy.char.decode(targets, 'latin-1')"
            ) from error
    text = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    codes = text.view(np.uint32)
    wrong = (codes > _LAST_CHARACTER) | ((codes >= _SURROGATES[0]) & (codes <= _SURROGATES[1]))
    if wrong.any():
        raise DataError(
            f"{name}: a class name is no text (it holds {int(codes[wrong][0]):#x}, which is no"
            " character)"
        )
    return text.astype(np.str_)


def _indices(part: RawPart) -> npt.NDArray[np.int64]:
    values = _column(part)
    if values.dtype.kind not in "buif":
        raise DataError(f"{part.targets_name}: labels of type {values.dtype}, not integers")
    labels = values.astype(np.float64)
    wrong = ~((labels >= 0) & (labels == np.floor(labels)) & (labels < 2**31))
    if wrong.any():
        position = int(wrong.argmax())
        raise DataError(
            f"{part.targets_name}: label {values[position]} of sample {position} is not a class"
            " index, an integer from 0 on"
        )
    return values.astype(np.int64)


def _named(part: RawPart, names: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    values = _column(part)
    known = np.isin(values, names)
    if not known.all():
        position = int(known.argmin())
        raise DataError(
            f"{part.targets_name}: class {values[position]!s} of sample {position} is not a class"
            f" of the training samples: {', '.join(str(name) for name in names[:20])}"
        )
    return np.searchsorted(names, values).astype(np.int64)


def _real(part: RawPart) -> Tensor:
    values = part.targets
    if values.dtype.kind in "US":
        raise ConfigError(
            [f"dataset.task=regression: the targets of {part.targets_name} are text, not numbers"]
        )
    if values.dtype.kind not in "buif":
        raise DataError(f"{part.targets_name}: targets of type {values.dtype}, not numbers")
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or values.shape[1] == 0:
        raise DataError(
            f"{part.targets_name}: targets of shape {values.shape}, where (samples,) or"
            " (samples, outputs) is needed"
        )
    finite = np.isfinite(values.astype(np.float64))
    if not finite.all():
        row, column = np.unravel_index(int(finite.argmin()), values.shape)
        raise DataError(
            f"{part.targets_name}: target {values[row, column]} of sample {row} is not finite"
        )
    small = values.dtype.kind == "f" and values.dtype.itemsize <= 4
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32 if small else np.float64))
