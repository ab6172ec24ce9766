"""From targets as a user stores them to class indices or real numbers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from idl_cli.data.files.array_files import RawPart
from idl_cli.data.tables.exact_floats import exact_floats
from idl_cli.data.task import Task, TaskKind
from idl_cli.errors import ConfigError, DataError

_OR_A_QUANTITY: Final = "; for a quantity in whole numbers give dataset.task=regression"
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
        texts = {name: _column(part).astype(np.str_) for name, part in parts.items()}
        names = np.unique(texts["train"])
        indices = {name: _named(parts[name], text, names) for name, text in texts.items()}
        return _classification(parts, indices, tuple(str(name) for name in names))
    return _classification(parts, {name: _indices(part) for name, part in parts.items()}, None)


def encode_for_task(parts: Mapping[str, RawPart], task: Task) -> EncodedTargets:
    """Encode the targets as a trained model means them: classes by name, wherever they stand.

    Not every class of the model need occur. Names of a model whose classes have none are its
    numbers; numbers are positions among the model's classes, which a warning says where they have
    names.

    Args:
        parts: what was read.
        task: of the model.

    Raises:
        DataError: a class is not the model's, or the model has another number of outputs.
        ConfigError: the targets are text and the model's are numbers.
    """
    if task.kind == "regression":
        real = {name: _real(part) for name, part in parts.items()}
        for name, values in real.items():
            if values.shape[1] != task.output_dim:
                raise DataError(
                    f"{parts[name].targets_name}: {values.shape[1]} targets a sample, but the model"
                    f" has {task.output_dim} outputs"
                )
        return EncodedTargets("regression", real, task.output_dim, None)
    encoded = {name: torch.from_numpy(_of_model(part, task)) for name, part in parts.items()}
    return EncodedTargets("classification", encoded, task.output_dim, task.class_names)


def _of_model(part: RawPart, task: Task) -> npt.NDArray[np.int64]:
    numbers = tuple(map(str, range(task.output_dim)))
    names = task.class_names or numbers
    said = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    if part.targets.dtype.kind in "US":
        values = _column(part).astype(np.str_)
        unknown = sorted(set(values.tolist()) - set(names))
        if unknown:
            count = int(np.isin(values, unknown).sum())
            raise DataError(
                f"{part.targets_name}: {', '.join(map(repr, unknown[:5]))} ({count:,} samples) is"
                f" no class of the model, which has {said}; leave those samples out, or train a"
                " model that has the class"
            )
        place = {name: index for index, name in enumerate(names)}
        return np.array([place[name] for name in values.tolist()], dtype=np.int64)
    labels = _indices(part)
    if labels.max() >= task.output_dim:
        position = int(labels.argmax())
        raise DataError(
            f"{part.targets_name}: label {labels[position]} of sample {position} is no class of the"
            f" model, which has 0 to {task.output_dim - 1}"
        )
    if names != numbers:
        warnings.warn(
            f"{part.targets_name}: numbers are taken as positions among the model's classes, from 0"
            f" on: {said}; give class names to be sure",
            stacklevel=2,
        )
    return labels


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
            f" with numpy.unique(targets, return_inverse=True){_OR_A_QUANTITY}"
        )
    for name, labels in indices.items():
        outside = labels >= classes
        if outside.any():
            position = int(outside.argmax())
            raise DataError(
                f"{parts[name].targets_name}: label {labels[position]} of sample {position} is not"
                f" a class of the training samples: 0 to {classes - 1} are{_OR_A_QUANTITY}"
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
            " is needed (one-hot rows: pass their argmax; several quantities a sample: give"
            " dataset.task=regression)"
        )
    return _text(values, part.targets_name) if values.dtype.kind in "US" else values


def _text(values: npt.NDArray[np.generic], name: str) -> npt.NDArray[np.str_]:
    """Names as text that can be written anywhere, from bytes in UTF-8 too."""
    if values.dtype.kind == "S":
        texts = []
        for sample, value in enumerate(values.tolist()):
            try:
                texts.append(value.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{name}: class {value!r} of sample {sample} is no text in UTF-8; save the"
                    " targets as text, e.g. numpy.char.decode(targets, 'latin-1')"
                ) from error
        return np.array(texts, dtype=np.str_)
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
            f" index, an integer from 0 on{_OR_A_QUANTITY}"
        )
    return values.astype(np.int64)


def _named(
    part: RawPart, values: npt.NDArray[np.str_], names: npt.NDArray[np.str_]
) -> npt.NDArray[np.int64]:
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
    with np.errstate(over="ignore"):  # what float64 cannot hold is refused as infinite
        finite = np.isfinite(values.astype(np.float64))
    if not finite.all():
        row, column = np.unravel_index(int(finite.argmin()), values.shape)
        raise DataError(
            f"{part.targets_name}: target {values[row, column]} of sample {row} is not finite"
        )
    return exact_floats(values, part.targets_name)
