"""Nested state ↔ one safetensors file: no pickle, so a foreign file can do no harm.

Tensors and arrays are the file's tensors; everything around them is JSON in the file's own header.
One file replaced in one step means that numbers and structure can never belong to two moments; one
checksum over both, that neither is believed where a bit of it was lost.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from idl_cli.data.digest import content_digest, tensors_digest
from idl_cli.errors import RunError
from idl_cli.run.files import read_json, write_atomic

FORMAT = "idl 2"
_WITHOUT_HEADER = "idl 1"
"""The format before, whose checksum is of the tensors alone."""

_HEADER = "idl"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: object = None) -> str:
    """Write named tensors and JSON metadata to a safetensors file, atomically.

    Args:
        path: the file.
        tensors: name → tensor on any device, any dtype and layout that safetensors knows.
        metadata: a JSON value kept in the file's header.

    Returns:
        The SHA-256 digest of tensors and metadata, which the header holds too.
    """
    # Copies: safetensors refuses tensors that share memory, as tied weights do.
    stored = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    content = json.loads(json.dumps(metadata, allow_nan=False))
    digest = content_digest(stored, content)
    header = {"format": FORMAT, "sha256": digest, "content": content}
    # One entry: safetensors writes several in any order, and equal content would differ in bytes.
    write_atomic(path, save(stored, metadata={_HEADER: json.dumps(header, allow_nan=False)}))
    return digest


def read_tensors(path: Path) -> tuple[dict[str, Tensor], object]:
    """Read what ``write_tensors`` wrote: the tensors, on the CPU, and the metadata.

    A file of an earlier version has no checksum of its metadata: a warning says so, unless the JSON
    beside it repeats them.

    Raises:
        RunError: the file is missing, cut short, altered, or was not written by idl.
    """
    if not path.is_file():
        raise RunError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(_HEADER, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: damaged, or not a safetensors file ({error})") from error
    if not isinstance(header, dict) or header.get("format") not in (FORMAT, _WITHOUT_HEADER):
        raise RunError(f"{path}: not written by idl, or by a version with another format")
    content, digest = header.get("content"), header.get("sha256")
    if header["format"] == _WITHOUT_HEADER:
        if digest != tensors_digest(tensors):
            raise RunError(f"{path}: damaged: its tensors do not match their checksum")
        _compare_with_json(path, content, digest)
    elif not _is_digest(digest, tensors, content):
        raise RunError(
            f"{path}: damaged: its content does not match its checksum; take a copy of it from "
            "elsewhere, or make it again"
        )
    return tensors, content


def _is_digest(digest: object, tensors: Mapping[str, Tensor], content: object) -> bool:
    try:
        return bool(digest == content_digest(tensors, content))
    except (ValueError, RecursionError):  # NaN or depth that nothing written here has
        return False


def _compare_with_json(path: Path, content: object, digest: str) -> None:
    """Hold metadata without a checksum against what the JSON file beside the tensors says."""
    if content is None:
        return
    beside = path.with_suffix(".json")
    repeated = read_json(beside) if beside.is_file() else {}
    if isinstance(content, dict) and content.keys() <= repeated.keys():
        if repeated != {**content, "sha256": digest}:
            raise RunError(f"{path}: damaged: it does not say of its tensors what {beside} says")
        return
    warnings.warn(
        f"{path}: written by an earlier version, without a checksum of what it says of its "
        "tensors; whether that is undamaged cannot be checked",
        stacklevel=3,
    )


def write_state(path: Path, state: object) -> str:
    """Write a nested state atomically; see ``pack`` for what it may hold. Returns its digest."""
    tensors: dict[str, Tensor] = {}
    structure = pack(state, tensors)
    return write_tensors(path, tensors, structure)


def read_state(path: Path) -> object:
    """Read what ``write_state`` wrote, equal to the bit and with the same types.

    Raises:
        RunError: as ``read_tensors``.
    """
    tensors, structure = read_tensors(path)
    try:
        return unpack(structure, tensors)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: not a state written by idl ({error!r})") from error


def pack(value: object, tensors: dict[str, Tensor]) -> object:
    """Return the JSON structure of a nested state and put its tensors aside.

    Args:
        value: None, booleans, numbers (NaN and infinities included), strings, tensors, NumPy
            arrays, and lists, tuples and mappings of them, mappings with any such key.
        tensors: filled with what the structure refers to, named by number.

    Raises:
        TypeError: something in the state is none of these.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, Tensor | np.ndarray):
        kind = "tensor" if isinstance(value, Tensor) else "array"
        name = str(len(tensors))
        tensors[name] = value if isinstance(value, Tensor) else torch.from_numpy(value.copy())
        return {kind: name}
    if isinstance(value, list):
        return [pack(entry, tensors) for entry in value]
    if isinstance(value, tuple):
        return {"tuple": [pack(entry, tensors) for entry in value]}
    if isinstance(value, Mapping):
        # Pairs, because JSON keys are strings and an optimiser's are numbers.
        return {"dict": [[pack(k, tensors), pack(v, tensors)] for k, v in value.items()]}
    raise TypeError(f"a {type(value).__name__} cannot be part of a saved state")


def unpack(structure: object, tensors: Mapping[str, Tensor]) -> object:
    """Return the state that ``pack`` took apart."""
    if isinstance(structure, list):
        return [unpack(entry, tensors) for entry in structure]
    if not isinstance(structure, dict):
        return structure
    ((kind, content),) = structure.items()
    if kind == "float":
        return float(content)
    if kind == "tensor":
        return tensors[content]
    if kind == "array":
        return tensors[content].numpy()
    if kind == "tuple":
        return tuple(unpack(entry, tensors) for entry in content)
    if kind == "dict":
        return {unpack(key, tensors): unpack(value, tensors) for key, value in content}
    raise ValueError(f"unknown kind {kind!r}")
