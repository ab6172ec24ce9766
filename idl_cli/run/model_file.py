"""The files of a trained model: its tensors, and what makes a model for them again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from torch import nn

from idl_cli.run.files import json_bytes, write_atomic
from idl_cli.run.sparse_tensors import packed
from idl_cli.run.state import write_tensors

if TYPE_CHECKING:
    from idl_cli.data.preprocessing import Preprocessing
    from idl_cli.data.task import Task

MODEL: Final = "model"
"""Name of both files, without what follows the dot."""


def write_model(
    directory: Path,
    model: nn.Module,
    preprocessing: Preprocessing | None,
    task: Task | None,
    *,
    name: str,
    group: str,
    arguments: Mapping[str, object],
) -> None:
    """Write ``model.safetensors``, of sparse tensors their values alone, and ``model.json``.

    Args:
        directory: of the run.
        model: the model.
        preprocessing: raw samples to the model's inputs; None where there is none.
        task: what the model predicts; None where that is unknown.
        name: the model's option in the config group.
        group: the config group that makes it.
        arguments: plain values that make it again.
    """
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    stored, sparse = packed(state)
    dtype = next((p.dtype for p in model.parameters()), torch.get_default_dtype())
    description: dict[str, object] = {
        "group": group,
        "name": name,
        "arguments": arguments,
        "dtype": str(dtype).removeprefix("torch."),
        "preprocessing": None if preprocessing is None else preprocessing.to_dict(),
        "task": None if task is None else task.to_dict(),
    }
    if sparse:
        description["sparse"] = sparse
    # The description is in the header of the tensors' file too, whence it is read: a crash
    # between the two files leaves no pair that does not match.
    header = json.loads(json_bytes(description))
    digest = write_tensors(directory / f"{MODEL}.safetensors", stored, header)
    write_atomic(directory / f"{MODEL}.json", json_bytes({**description, "sha256": digest}))
