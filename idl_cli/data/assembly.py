"""From the parts as published to a ``Dataset``: what every option of the config group shares."""

from __future__ import annotations

from dataclasses import replace

from idl_cli.data.dataset import Dataset
from idl_cli.data.images.augmentation import Augmentation
from idl_cli.data.preprocessing import Normalization, Preprocessing
from idl_cli.data.randomness import Purpose
from idl_cli.data.scaling import TargetScaling
from idl_cli.data.split import Split
from idl_cli.data.splits import split_off, take_samples
from idl_cli.data.task import Task
from idl_cli.errors import ConfigError


def assemble(
    name: str,
    train: Split,
    test: Split,
    task: Task,
    *,
    seed: int,
    normalize: Normalization,
    divisor: float,
    train_samples: int | None,
    test_samples: int | None,
    validation_fraction: float,
    validation: Split | None = None,
    augmentation: Augmentation | None = None,
) -> Dataset:
    """Choose samples, split off the validation part and fit the normalisation.

    ``train_samples`` are drawn first and the validation part is taken out of them; the
    normalisation is fitted on what is then left to train on. Real targets are standardised by what
    is left, too, unless ``normalize`` is none: a model of outputs near 0 hardly learns targets of
    the size of prices. ``Task.target_scaling`` brings them back.

    Args:
        name: option of the config group.
        train: training part as published.
        test: test part as published.
        task: the task.
        seed: non-negative integer that fixes the choice of samples.
        normalize: see ``Preprocessing``.
        divisor: see ``Preprocessing``.
        train_samples: how many training samples to use, None for all.
        test_samples: how many test samples to use, None for all.
        validation_fraction: share of the training samples held out; 0 for no validation part.
        validation: a validation part as published; then none is split off.
        augmentation: applied to training batches.

    Raises:
        ConfigError: a number of samples cannot be had.
    """
    train = take_samples(
        train, train_samples, purpose=Purpose.TRAIN_SAMPLES, seed=seed, key="dataset.train_samples"
    )
    test = take_samples(
        test, test_samples, purpose=Purpose.TEST_SAMPLES, seed=seed, key="dataset.test_samples"
    )
    if validation is None and validation_fraction > 0:
        samples = len(train)
        train, validation = split_off(
            train, validation_fraction, purpose=Purpose.VALIDATION, seed=seed
        )
        if not (len(train) and len(validation)):
            raise ConfigError(
                [
                    f"dataset.validation_fraction={validation_fraction:g} of {samples} samples"
                    f" leaves {len(train)} to train on and {len(validation)} to validate with;"
                    " both need at least one, or set it to 0 for no validation part"
                ]
            )
    if task.kind == "regression" and normalize != "none":
        scaling = TargetScaling.fit(train.targets)
        task = replace(task, target_scaling=scaling)
        train, test = train.scaled(scaling), test.scaled(scaling)
        validation = None if validation is None else validation.scaled(scaling)
    return Dataset(
        name=name,
        train=train,
        validation=validation,
        test=test,
        task=task,
        preprocessing=Preprocessing.fit(train.inputs, normalize, divisor=divisor),
        augmentation=augmentation,
    )
