"""The network that ``idl convert`` is asked for, and the data it is compared on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from idl_cli import registry
from idl_cli.assembly.compute import Compute, RunContext
from idl_cli.assembly.idle_options import warn_of_idle_teacher_options
from idl_cli.assembly.requested import TeacherRequest
from idl_cli.assembly.teacher import present_teacher, trained_here
from idl_cli.commands.convert.settings import ConvertSettings
from idl_cli.config.schemas.root import Component
from idl_cli.data.dataset import Dataset
from idl_cli.data.task import Task
from idl_cli.errors import ConfigError
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.sparse.conversion import in_levels, weights_of
from idl_cli.models.sparse.model import SparseImplicitModel
from idl_cli.models.tracing.network import from_network
from idl_cli.models.tracing.onnx_network import OnnxNetwork, from_onnx
from idl_cli.run import load_run


@dataclass(frozen=True)
class NetworkRequest:
    """The settings of a conversion that ask for data and a teacher.

    Attributes:
        dataset: section ``dataset``.
        seed: of the validation split and the teacher's weights.
        teacher: section ``teacher``.
        resume: a conversion is not continued: it takes seconds.
    """

    dataset: Component
    seed: int
    teacher: Component
    resume: None = None


@dataclass(frozen=True, eq=False)
class Source:
    """A network that is there.

    Attributes:
        network: (m, *input_shape) to outputs.
        convert: makes its implicit form.
        input_shape: of one sample.
        dataset: with the network's preprocessing; None where there is none.
        task: what it predicts; None where that is unknown.
        origin: where it comes from, for people.
        bytes: of its parameters.
    """

    network: Callable[[Tensor], Tensor]
    convert: Callable[[], SparseImplicitModel]
    input_shape: tuple[int, ...]
    dataset: Dataset | None
    task: Task | None
    origin: str
    bytes: int


def source_of(dataset: Dataset | None, context: RunContext[ConvertSettings]) -> Source:
    """Read, load or train the network.

    Raises:
        ConfigError: it does not fit the data set, or nothing says of what shape its inputs are.
        UnsupportedModelError, DataError, RunError: it cannot be read.
    """
    settings = context.settings
    if settings.onnx is not None:
        return _of_onnx(settings.onnx, dataset, context.compute)
    assert settings.teacher is not None
    if dataset is None:
        return _of_run_alone(Path(settings.teacher["run"]).expanduser(), context.compute)
    assert settings.dataset is not None
    request = NetworkRequest(settings.dataset, settings.seed, settings.teacher)
    warn_of_idle_teacher_options(request)
    asked: RunContext[TeacherRequest] = RunContext(
        request, context.compute, context.group, context.directory, context.console
    )
    teacher = present_teacher(dataset, asked)
    if teacher is None:
        _try_out(dataset, request)
        teacher = trained_here(dataset, asked)
    task = teacher.dataset.task
    return _of_module(teacher.model, task, teacher.dataset, teacher.origin)


def _try_out(dataset: Dataset, request: NetworkRequest) -> None:
    """Find out before the training whether the network can be converted."""
    task = dataset.task
    with torch.random.fork_rng(devices=[]):  # the network's weights do not depend on this look
        network = registry.build(
            "teacher",
            request.teacher,
            input_shape=task.input_shape,
            output_dim=task.output_dim,
        )
    from_network(network, task.input_shape)


def _of_run_alone(path: Path, compute: Compute) -> Source:
    loaded = load_run(path)
    model = loaded.model.to(device=compute.device, dtype=compute.dtype)
    if loaded.task is None:
        raise ConfigError([f"teacher.run={path}: says nothing of its inputs; give dataset=OPTION"])
    return _of_module(model, loaded.task, None, str(path))


def _of_module(network: nn.Module, task: Task, dataset: Dataset | None, origin: str) -> Source:
    network.eval()

    def convert() -> SparseImplicitModel:
        if isinstance(network, SparseImplicitModel):
            return network
        if isinstance(network, ImplicitModel):
            dtype = network.B.dtype
            made = SparseImplicitModel.from_weights(in_levels(weights_of(network)), dtype)
            return made.to(network.B.device)
        return from_network(network, task.input_shape)

    tensors = [*network.parameters(), *network.buffers()]
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return Source(network, convert, task.input_shape, dataset, task, origin, size)


def _of_onnx(file: str, dataset: Dataset | None, compute: Compute) -> Source:
    network = OnnxNetwork(Path(file).expanduser(), compute.dtype)
    shape = network.input_shape
    if dataset is not None:
        task = dataset.task
        if shape is not None and len(torch.empty(shape).flatten()) != task.input_dim:
            raise ConfigError(
                [
                    f"onnx={file}: takes samples of shape {list(shape)}; dataset={dataset.name} "
                    f"has {list(task.input_shape)}"
                ]
            )
        shape = task.input_shape if shape is None else shape
    if shape is None:
        raise ConfigError(
            [f"onnx={file}: leaves the shape of its inputs open; give dataset=OPTION"]
        )
    return Source(
        network,
        lambda: from_onnx(network, shape).to(compute.device),
        shape,
        dataset,
        None if dataset is None else dataset.task,
        file,
        network.bytes,
    )
