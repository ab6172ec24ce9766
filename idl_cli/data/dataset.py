"""A data set in memory: its parts as raw samples, its task, and how samples become inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from idl_cli.data.images.augmentation import Augmentation
from idl_cli.data.preprocessing import Preprocessing
from idl_cli.data.series.differences import Differences
from idl_cli.data.split import Split
from idl_cli.data.synthetic.shifts import Shifts
from idl_cli.data.task import Task
from idl_cli.errors import ConfigError


@dataclass(frozen=True)
class TimeAxis:
    """When the test samples of a forecast are, for plots.

    Args:
        test: time of the first value to be forecast by each test sample, numbers or datetime64.
        label: what the times are.
    """

    test: npt.NDArray[np.generic]
    label: str


@dataclass(frozen=True)
class Dataset:
    """Everything a run needs to know about its data.

    Args:
        name: the option of the config group ``dataset`` it was made by.
        train: samples to train on; the preprocessing was fitted on these alone.
        validation: samples to choose by (early stopping, best checkpoint), or None.
        test: samples to report on.
        task: what is predicted from what.
        preprocessing: raw samples to model inputs; the same one for all parts and for later use.
        augmentation: random change of raw training samples, or None.
        shifts: further test parts, ever farther from the training samples, or None.
        times: when the test samples of a forecast are, or None.
        assumptions: what was inferred because the user did not say, one sentence each.
    """

    name: str
    train: Split
    validation: Split | None
    test: Split
    task: Task
    preprocessing: Preprocessing
    augmentation: Augmentation | None = None
    shifts: Shifts | None = None
    times: TimeAxis | None = None
    assumptions: tuple[str, ...] = ()

    def for_model_of(self, task: Task, preprocessing: Preprocessing | None) -> Dataset:
        """Return the data as a model trained on another data set needs them.

        Args:
            task: of the other data set: its scaling of the targets is taken over, and whether
                changes or values of a series are forecast.
            preprocessing: of the other data set; None keeps this one's.
        """
        own, other = self.task.target_scaling, task.target_scaling

        def rescaled(part: Split) -> Split:
            targets = part.targets if own is None else own.unscale(part.targets)
            return Split(part.inputs, targets if other is None else other.scale(targets))

        made = replace(
            self.learning_changes(None if task.forecast is None else task.forecast.differences),
            preprocessing=self.preprocessing if preprocessing is None else preprocessing,
        )
        if own == other:
            return made
        shifts = self.shifts
        if shifts is not None:
            make = shifts.make
            shifts = replace(shifts, make=lambda shift: rescaled(make(shift)))
        return replace(
            made,
            train=rescaled(self.train),
            validation=None if self.validation is None else rescaled(self.validation),
            test=rescaled(self.test),
            task=replace(made.task, target_scaling=other),
            shifts=shifts,
        )

    def in_classes_of(self, task: Task) -> Dataset:
        """Return the data with the classes of another task, found by name wherever they stand.

        Classes of which one side alone has names are the same by position.

        Raises:
            ConfigError: a class has a name that the other task has not.
        """
        own, other = self.task.class_names, task.class_names
        numbers = tuple(map(str, range(task.output_dim)))
        if own == other or self.task.kind != "classification" or own is None:
            return self
        places = {name: place for place, name in enumerate(other or numbers)}
        unknown = [name for name in own if name not in places]
        if unknown:
            raise ConfigError(
                [
                    f"dataset={self.name}: {', '.join(map(repr, unknown[:5]))} is no class of the"
                    f" model, which has {', '.join([*places][:20])}"
                ]
            )
        place_of = torch.tensor([places[name] for name in own])

        def renamed(part: Split) -> Split:
            return Split(part.inputs, place_of[part.targets])

        shifts = self.shifts
        if shifts is not None:
            make = shifts.make
            shifts = replace(shifts, make=lambda shift: renamed(make(shift)))
        return replace(
            self,
            train=renamed(self.train),
            validation=None if self.validation is None else renamed(self.validation),
            test=renamed(self.test),
            task=replace(self.task, output_dim=task.output_dim, class_names=other),
            shifts=shifts,
        )

    def learning_changes(self, differences: Differences | None) -> Dataset:
        """Return the data for a model that reads and predicts these changes, None for values."""
        forecast = self.task.forecast
        if forecast is None or forecast.differences == differences:
            return self
        forecast = replace(forecast, differences=differences)
        return replace(self, task=replace(self.task, forecast=forecast))
