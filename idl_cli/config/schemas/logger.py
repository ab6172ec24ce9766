"""Where a run's metrics go beside the console."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from idl_cli.config.fields import AT_LEAST_ONE


@dataclass(frozen=True)
class Jsonl:
    """One JSON object a line in the run's metrics.jsonl."""

    name: Literal["jsonl"] = "jsonl"


@dataclass(frozen=True)
class TensorBoard:
    """TensorBoard event files in the run directory, beside metrics.jsonl."""

    name: Literal["tensorboard"] = "tensorboard"
    flush_seconds: Annotated[int, AT_LEAST_ONE] = 30
