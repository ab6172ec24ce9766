"""The network whose states ``idl sim`` matches: trained on the spot, or taken from a run."""

from __future__ import annotations

import time
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from idl_cli import registry
from idl_cli.assembly.compute import Compute, RunContext
from idl_cli.assembly.requested import SimRequest, TeacherRequest
from idl_cli.assembly.teacher_training import train_teacher
from idl_cli.assembly.teacher_weights import as_it_was_trained, load_weights, network_of_file
from idl_cli.data.dataset import Dataset
from idl_cli.data.input_scale import preprocessing_for
from idl_cli.data.loader import BatchLoader
from idl_cli.errors import ConfigError
from idl_cli.evaluation import evaluate
from idl_cli.models.differenced import Differenced
from idl_cli.run import LoadedRun, RunDirectory, load_run
from idl_cli.run.model_file import MODEL
from idl_cli.sim.states.convolution_recorder import ConvolutionRecorder
from idl_cli.sim.states.recorders import state_recorder

FOLDER = "teacher"
"""Where a run keeps the teacher it trained."""


@dataclass(frozen=True, eq=False)
class Teacher:
    """A trained network and the data as it takes them.

    Attributes:
        model: on the run's device, in the run's dtype.
        dataset: with the preprocessing that the network was trained with.
        origin: where the network comes from, for people.
        seconds: wall-clock time of its training here, 0 when it was taken from a run.
    """

    model: nn.Module
    dataset: Dataset
    origin: str
    seconds: float


def prepare_teacher(dataset: Dataset, context: RunContext[SimRequest]) -> Teacher:
    """Take the teacher from a run, or train it and keep it in this one.

    Args:
        dataset: to train on.
        context: of this run; a teacher trained here goes to its directory's folder ``teacher``.

    Raises:
        ConfigError: the run's model does not fit the data set.
        RunError: the run holds no usable model.
    """
    found = present_teacher(dataset, context)
    if found is not None:
        return found
    check_states(context.settings, dataset, context.compute)
    return trained_here(dataset, context)


def trained_here(dataset: Dataset, context: RunContext[TeacherRequest]) -> Teacher:
    """Train the teacher and keep it in this run, in the folder ``teacher``."""
    settings, compute, directory = context.settings, context.compute, context.directory
    started = time.perf_counter()
    model = new_teacher(settings, dataset, compute)
    with RunDirectory(
        directory.path / FOLDER, command="train", seed=settings.seed, resume=True
    ) as kept:
        kept.truncate_metrics(0)
        train_teacher(model, dataset, replace(context, directory=kept))
        kept.save_model(
            model,
            preprocessing=dataset.preprocessing,
            task=dataset.task,
            name=str(settings.teacher["name"]),
            group="teacher",
        )
        test = BatchLoader(
            dataset.test,
            1024,
            preprocessing=dataset.preprocessing,
            shuffle=False,
            seed=settings.seed,
            device=compute.device,
            dtype=compute.dtype,
        )
        figures = evaluate(model, test, dataset.task)
        kept.finish("completed", {f"test_{name}": value for name, value in figures.items()})
    return Teacher(model, dataset, "trained here", time.perf_counter() - started)


def shared_teacher(dataset: Dataset, context: RunContext[SimRequest]) -> Teacher:
    """The same teacher on every rank: rank 0 takes or trains it, and sends it to the others.

    Args:
        dataset: to train on.
        context: of this run, on all ranks.

    Raises:
        ConfigError, RunError: as for ``prepare_teacher``, on rank 0.
    """
    teacher, compute, group = None, context.compute, context.group
    if group.is_main:
        teacher = prepare_teacher(dataset, context)
        if group.size == 1:
            return teacher
        task, preprocessing = teacher.dataset.task, teacher.dataset.preprocessing
        sent = (deepcopy(teacher.model).cpu(), task, preprocessing, teacher.origin)
    received = group.broadcast_object(None if teacher is None else sent)
    if teacher is not None:
        return teacher
    assert received is not None
    model, task, preprocessing, origin = received
    dataset = dataset.in_classes_of(task).for_model_of(task, preprocessing)
    return Teacher(model.to(device=compute.device, dtype=compute.dtype), dataset, origin, 0.0)


def present_teacher(dataset: Dataset, context: RunContext[TeacherRequest]) -> Teacher | None:
    """The teacher that need not be trained, of a run or a file; None where one has to be.

    Raises:
        ConfigError, RunError, DataError: it cannot be read, or does not fit the data set.
    """
    settings, compute = context.settings, context.compute
    if settings.teacher["name"] == "weights":
        network: nn.Module = network_of_file(settings.teacher, dataset, compute)
        network.eval()
        fitting = as_it_was_trained(settings.teacher, dataset)
        return Teacher(network, fitting, str(settings.teacher["file"]), 0.0)
    file = settings.teacher.get("file")
    if file is not None:
        network = new_teacher(settings, dataset, compute)
        load_weights(network, file)
        fitting = as_it_was_trained(settings.teacher, dataset)
        return Teacher(network.eval(), fitting, str(file), 0.0)
    found = find_teacher(settings, context.directory)
    return None if found is None else taken_from(load_run(found), dataset, compute)


def find_teacher(settings: TeacherRequest, directory: RunDirectory) -> Path | None:
    """The run to take the teacher from; None where one has to be trained.

    ``teacher=run`` means the model of the run itself. The other teachers first look for the one
    that an earlier ``idl sim`` kept in the run. ``resume`` takes up a finished teacher, too.
    """
    named = settings.teacher.get("run")
    if settings.teacher["name"] == "run":
        return Path(str(named)).expanduser()
    if named is not None:
        inner = Path(str(named)).expanduser() / FOLDER
        return inner if _has_model(inner) else Path(str(named)).expanduser()
    if settings.resume is not None:
        earlier = (
            directory.path if settings.resume == "auto" else Path(settings.resume).expanduser()
        )
        if _has_model(earlier / FOLDER):
            return earlier / FOLDER
    return None


def taken_from(loaded: LoadedRun, dataset: Dataset, compute: Compute) -> Teacher:
    """The teacher of a run, with the data set preprocessed as it was trained.

    Raises:
        ConfigError: its inputs or outputs are not those of the data set.
    """
    task = dataset.task
    if loaded.task is not None:
        theirs = (loaded.task.input_dim, loaded.task.output_dim)
        if theirs != (task.input_dim, task.output_dim):
            raise ConfigError(
                [
                    f"teacher.run={loaded.path}: its model maps {theirs[0]} inputs to {theirs[1]} "
                    f"outputs; dataset={dataset.name} has {task.input_dim} and {task.output_dim}"
                ]
            )
    if isinstance(loaded.model, Differenced):
        raise ConfigError(
            [
                f"teacher.run={loaded.path}: it forecasts changes of a series, which an implicit "
                "model of its states would not; train it with dataset.difference=never"
            ]
        )
    if loaded.preprocessing is not None:
        preprocessing = preprocessing_for(dataset, loaded.preprocessing)
        trained_on = task if loaded.task is None else loaded.task
        dataset = dataset.in_classes_of(trained_on).for_model_of(trained_on, preprocessing)
    model = loaded.model.to(device=compute.device, dtype=compute.dtype)
    return Teacher(model, dataset, str(loaded.path), 0.0)


def new_teacher(settings: TeacherRequest, dataset: Dataset, compute: Compute) -> nn.Module:
    """An untrained network as the settings describe it."""
    made: nn.Module = registry.build(
        "teacher",
        settings.teacher,
        input_shape=dataset.task.input_shape,
        output_dim=dataset.task.output_dim,
    )
    return made.to(device=compute.device, dtype=compute.dtype)


def check_states(settings: SimRequest, dataset: Dataset, compute: Compute) -> None:
    """Find out before the training whether the states asked for can be recorded.

    Raises:
        ArgumentError, UnsupportedModelError: as recording would, after the teacher's training.
    """
    with torch.random.fork_rng(devices=[]):  # the teacher's weights do not depend on this look
        model = new_teacher(settings, dataset, compute)
    few = dataset.train.subset(torch.arange(min(2, len(dataset.train))))
    loader = BatchLoader(
        few,
        2,
        preprocessing=dataset.preprocessing,
        shuffle=False,
        seed=settings.seed,
        device=compute.device,
        dtype=compute.dtype,
    )
    inputs, _ = next(iter(loader))
    if settings.trainer["structure"] == "convolution":
        ConvolutionRecorder(model, inputs)
        return
    state_recorder(model, inputs, names=settings.teacher["states"])


def _has_model(path: Path) -> bool:
    return (path / f"{MODEL}.safetensors").is_file()
