"""The file that sums are kept in: safetensors with a digest of numbers and description, no pickle.

Version 1 had no digest; version 2 has.
"""

from __future__ import annotations

import os
import secrets
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from idl_cli.data.digest import content_digest
from idl_cli.errors import DataError

_FORMAT = "idl-sufficient-statistics-2"
_WITHOUT_CHECKSUM = "idl-sufficient-statistics-1"


def write_sums(path: Path, tensors: Mapping[str, Tensor], description: Mapping[str, str]) -> None:
    """Write named tensors and what describes them, atomically.

    Raises:
        DataError: the disk is full or refuses; a file that was there before stays as it was.
    """
    contiguous = {name: value.contiguous() for name, value in tensors.items()}
    metadata = {"format": _FORMAT, **description}
    metadata["sha256"] = content_digest(contiguous, metadata)
    mark = f"{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.with_name(f".{path.name}.{mark}.idl-tmp")  # a killed run's are removed by name
    try:
        save_file(contiguous, temporary, metadata=metadata)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:  # its form of the system's errors
        raise DataError(
            f"{path}: cannot be written ({error}); make room, or choose another place"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def read_sums(path: Path, device: torch.device | str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and description as :func:`write_sums` wrote them.

    Raises:
        DataError: the file is missing, truncated, altered, of another kind or version.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 safe_open is no mapping
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"{path}: cannot be read as statistics ({error}); record the states again"
        ) from error
    digest = metadata.pop("sha256", None)
    if metadata.get("format") == _WITHOUT_CHECKSUM:
        warnings.warn(
            f"{path}: written by an earlier version, without a checksum; whether it is "
            "undamaged cannot be checked",
            stacklevel=3,
        )
    elif metadata.get("format") != _FORMAT:
        raise DataError(
            f"{path}: is not a statistics file of this version "
            f"(format {metadata.get('format')!r}, need {_FORMAT!r}); record the states again"
        )
    elif digest != content_digest(stored, metadata):
        raise DataError(
            f"{path}: damaged: its content does not match its checksum; record the states again"
        )
    return stored, metadata
