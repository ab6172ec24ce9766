"""Give back what a run learned: the model alone, or with all that is needed to use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import torch
from torch import nn

from idl_cli import registry
from idl_cli.data.preprocessing import Preprocessing
from idl_cli.data.task import Task
from idl_cli.errors import IdlError, RunError
from idl_cli.models.differenced import Differenced
from idl_cli.run.model_file import MODEL
from idl_cli.run.sparse_tensors import unpacked
from idl_cli.run.state import read_tensors

_OF_DESCRIPTIONS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What making a model raises where its description is not one that idl wrote."""


@dataclass(frozen=True)
class LoadedRun:
    """A trained model and what it needs.

    Attributes:
        path: the run directory.
        name: the model's option in the config group ``model`` (of a teacher, in ``teacher``).
        arguments: what the model was made with.
        model: in evaluation mode.
        preprocessing: raw samples to the model's inputs; None if the run had none.
        task: what the model predicts; None if the run did not say.
        dtype: of the weights.
    """

    path: Path
    name: str
    arguments: Mapping[str, object]
    model: nn.Module
    preprocessing: Preprocessing | None
    task: Task | None
    dtype: torch.dtype


def fitted_to(model: nn.Module, task: Task) -> nn.Module:
    """Return the model as its task uses it: around changes of a series where it says so.

    Args:
        model: as the registry builds it.
        task: what it predicts.
    """
    forecast = task.forecast
    if forecast is None or forecast.differences is None:
        return model
    changes = forecast.differences
    return Differenced(
        model,
        target=forecast.target_feature,
        input_scale=changes.input_scale,
        mean=changes.mean,
        scale=changes.scale,
    )


def load_model(run_dir: Path | str, *, device: torch.device | str = "cpu") -> nn.Module:
    """Return the trained model of a run, in evaluation mode.

    Args:
        run_dir: a run directory, of ``idl train`` or ``idl sim``.
        device: where to put the model.

    Raises:
        RunError: the directory holds no usable model; the message names the file.
    """
    return load_run(run_dir, device=device).model


def load_run(run_dir: Path | str, *, device: torch.device | str = "cpu") -> LoadedRun:
    """Return the trained model of a run with its preprocessing and task.

    Args:
        run_dir: a run directory, of ``idl train`` or ``idl sim``.
        device: where to put the model.

    Raises:
        RunError: the directory holds no usable model; the message names the file.
    """
    path = Path(run_dir)
    file = path / f"{MODEL}.safetensors"
    if not path.is_dir():
        raise RunError(f"{path}: no such run directory")
    if not file.is_file():
        raise RunError(
            f"{file}: no such file; the run has not ended, or it failed before it had a model"
        )
    tensors, description = read_tensors(file)
    try:
        values = cast(Mapping[str, object], description)
        group, name = str(values["group"]), str(values["name"])
        arguments = cast(Mapping[str, object], values["arguments"])
        dtype = cast(torch.dtype, getattr(torch, str(values["dtype"])))
        model = cast(nn.Module, registry.build(group, {"name": name, **arguments}))
        preprocessing = cast(Mapping[str, object] | None, values["preprocessing"])
        described = cast(Mapping[str, object] | None, values["task"])
        task = None if described is None else Task.from_dict(described)
        model = model if task is None else fitted_to(model, task)
        sparse = cast(Mapping[str, Sequence[int]], values.get("sparse", {}))
        model.to(dtype).load_state_dict(unpacked(tensors, sparse))
        return LoadedRun(
            path=path,
            name=name,
            arguments=arguments,
            model=model.to(device).eval(),
            preprocessing=None if preprocessing is None else Preprocessing.from_dict(preprocessing),
            task=task,
            dtype=dtype,
        )
    except (IdlError, *_OF_DESCRIPTIONS) as error:
        reason = str(error) or type(error).__name__
        raise RunError(f"{file}: the model it describes cannot be made again: {reason}") from error
