"""One checksum over the tensors of a file and over what its header says of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor


def content_digest(tensors: Mapping[str, Tensor], content: object) -> str:
    """SHA-256 of tensors and of the JSON value that says what they are.

    A checksum of the tensors alone would let a flipped bit in a header (a scale, a layout, the
    number of an epoch) through.

    Args:
        tensors: name → tensor of any device, shape and dtype.
        content: plain JSON, mappings with keys of text alone. Equal values give equal digests,
            whatever the order of their keys and however they are written.

    Returns:
        64 hexadecimal digits.
    """
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(f"{text}\n{tensors_digest(tensors)}".encode()).hexdigest()


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, dtypes, shapes and bytes alone: what files held before content_digest."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
