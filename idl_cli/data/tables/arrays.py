"""The user's own data: array files or a folder of images, checked before any work is done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from idl_cli.config.arguments import keywords_of
from idl_cli.data.assembly import assemble
from idl_cli.data.dataset import Dataset
from idl_cli.data.files.array_files import RawPart, read_array_files
from idl_cli.data.files.image_folder import read_image_folder
from idl_cli.data.options import ArraysOptions
from idl_cli.data.preprocessing import Normalization, Preprocessing
from idl_cli.data.randomness import Purpose
from idl_cli.data.split import Split
from idl_cli.data.splits import split_off, take_samples
from idl_cli.data.tables.channels import channels_first
from idl_cli.data.tables.exact_floats import exact_floats
from idl_cli.data.tables.targets import encode_for_task, encode_targets
from idl_cli.data.task import Task
from idl_cli.errors import ConfigError, DataError

# As for the digits: which samples are tested on does not follow the run's seed.
_TEST_SPLIT_SEED = 0


@keywords_of(ArraysOptions, section="dataset")
def arrays(
    options: ArraysOptions,
    *,
    seed: int = 0,
    cache_dir: Path | str | None = None,
    for_task: Task | None = None,
) -> Dataset:
    """Load the user's own data; keys as in ``configs/dataset/arrays.yaml``.

    Integer or text targets make a classification task, real ones a regression. 8-bit inputs are
    taken as pixels and brought to [0, 1]. Real targets are standardised as the inputs are, unless
    ``normalize`` is none; metrics are in their own unit all the same.

    Args:
        options: the keys, each a keyword argument of its own. ``file``: see ``array_files`` and
            ``image_folder``; ``channels``: see ``channels_first``.
        seed: fixes the validation part and the choice of samples, not the test part.
        cache_dir: taken for uniformity; nothing is downloaded.
        for_task: of a trained model to be measured on the data: classes are the model's, and a file
            that is not divided is the test part, all of it. Train and test part are then the same
            samples, targets in their own unit and inputs not normalised: see
            ``Dataset.for_model_of``.

    Raises:
        DataError: a file cannot be read, or what it holds cannot be learnt from.
        ConfigError: a key is out of range, or the keys contradict each other or the data.
    """
    file, target, channels = options.file, options.target, options.channels
    path = Path(file).expanduser()
    assumptions: list[str] = []
    if path.is_dir():
        if target is not None:
            raise ConfigError(
                [f"dataset.target={target}: the targets of a folder of images are its folders"]
            )
        if channels != "auto":
            raise ConfigError(
                [f"dataset.channels={channels}: is of arrays, and {file} is a folder of images"]
            )
        raw = read_image_folder(path)
    else:
        raw = read_array_files(path, None if target is None else Path(target).expanduser())
        raw, assumed = channels_first(raw, channels)
        assumptions += assumed
    parts, found = _check(raw, options.task, for_task)
    divisor = 255.0 if raw["train"].inputs.dtype == np.uint8 else 1.0
    if for_task is not None:
        samples = take_samples(
            parts.get("test", parts["train"]),
            options.test_samples,
            purpose=Purpose.TEST_SAMPLES,
            seed=seed,
            key="dataset.test_samples",
        )
        kept = Preprocessing("none", found.input_shape, divisor)
        measured = Dataset("arrays", samples, None, samples, found, kept)
        return replace(measured, assumptions=tuple(assumptions))
    train, test = parts["train"], parts.get("test")
    if test is None:
        if len(parts) > 1:
            assumptions.append(
                f"{file} has no test part: {options.test_fraction:g} of its training samples are"
                " one (dataset.test_fraction)"
            )
        train, test = split_off(
            train, options.test_fraction, purpose=Purpose.TEST_SPLIT, seed=_TEST_SPLIT_SEED
        )
        if not (len(train) and len(test)):
            raise ConfigError(
                [
                    f"dataset.test_fraction={options.test_fraction:g} of the"
                    f" {len(parts['train'])} samples of {file} leaves"
                    f" {len(train)} to train on and {len(test)} to test on"
                ]
            )
    if options.task == "auto" and found.kind == "classification" and found.class_names is None:
        assumptions.append(
            f"whole-number targets are {found.output_dim} classes (dataset.task=regression for"
            " quantities)"
        )
    dataset = assemble(
        "arrays",
        train,
        test,
        found,
        seed=seed,
        normalize=_normalization(options.normalize, found),
        divisor=divisor,
        train_samples=options.train_samples,
        test_samples=options.test_samples,
        validation_fraction=options.validation_fraction,
        validation=parts.get("validation"),
    )
    return replace(dataset, assumptions=tuple(assumptions))


def _normalization(
    normalize: Literal["auto", "channel", "feature", "none"], task: Task
) -> Normalization:
    if normalize == "auto":
        return "feature" if len(task.input_shape) == 1 else "channel"
    return normalize


def _check(
    raw: dict[str, RawPart],
    kind: Literal["auto", "classification", "regression"],
    for_task: Task | None,
) -> tuple[dict[str, Split], Task]:
    for part in raw.values():
        samples, targets = (part.inputs.shape or (0,))[0], (part.targets.shape or (0,))[0]
        if not samples:
            raise DataError(f"{part.inputs_name}: holds no samples")
        if samples != targets:
            raise DataError(
                f"{part.targets_name}: {targets:,} targets for the {samples:,} samples of"
                f" {part.inputs_name}"
            )
    encoded = encode_targets(raw, kind) if for_task is None else encode_for_task(raw, for_task)
    inputs = {name: _input_tensor(part) for name, part in raw.items()}
    shape, pixels = tuple(inputs["train"].shape[1:]), raw["train"].inputs.dtype == np.uint8
    for name, tensor in inputs.items():
        if tuple(tensor.shape[1:]) != shape or (raw[name].inputs.dtype == np.uint8) != pixels:
            raise DataError(
                f"{raw[name].inputs_name}: samples of shape {tuple(tensor.shape[1:])} and type"
                f" {raw[name].inputs.dtype}, but those of {raw['train'].inputs_name} have shape"
                f" {shape} and type {raw['train'].inputs.dtype}"
            )
    task = Task(encoded.kind, shape, encoded.output_dim, encoded.class_names)
    return {name: Split(inputs[name], encoded.targets[name]) for name in raw}, task


def _input_tensor(part: RawPart) -> Tensor:
    """Samples of a dtype that loses nothing: 8-bit pixels, or float32/64 without NaN."""
    values = part.inputs
    if values.dtype.kind not in "buif":
        raise DataError(f"{part.inputs_name}: entries of type {values.dtype}, where numbers belong")
    if 0 in values.shape[1:]:
        raise DataError(f"{part.inputs_name}: samples of shape {values.shape[1:]}, with no entries")
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what float64 cannot hold is refused as infinite
            finite = np.isfinite(values.astype(np.float64) if values.itemsize > 8 else values)
        if not finite.all():
            position = np.unravel_index(int(finite.argmin()), values.shape)
            where = ", ".join(str(index) for index in position)
            raise DataError(
                f"{part.inputs_name}: entry [{where}] is {values[position]}"
                f" ({(~finite).sum():,} of {values.size:,} entries are not finite)"
            )
    if values.ndim == 1:
        values = values[:, None]
    if values.dtype == np.bool_ or values.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.uint8))
    return exact_floats(values, part.inputs_name)
