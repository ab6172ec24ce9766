"""The root keys of ``idl predict``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from idl_cli.config.fields import AT_LEAST_ONE, RECORD, Existing
from idl_cli.config.schemas.root import RunSettings

OUTPUT_SUFFIXES = (".csv", ".jsonl", ".npy", ".npz", ".parquet")


@dataclass(frozen=True, kw_only=True)
class _Predicted:
    """What is predicted; a base, since the fields of later bases stand first."""

    run: Annotated[str, Existing("directory")]
    input: Annotated[str, Existing("file or directory", unless="-")]
    output: str = "-"
    probabilities: bool = False
    key: str | None = None
    columns: tuple[str, ...] | None = None
    batch_size: Annotated[int, AT_LEAST_ONE] = 128


@dataclass(frozen=True, kw_only=True)
class PredictSettings(RunSettings, _Predicted):
    """Apply the model of a finished run to a file of one's own."""

    report: bool = field(default=False, metadata=RECORD)

    def problems(self) -> Iterator[str]:
        """The output's suffix says its form."""
        if self.output != "-" and Path(self.output).suffix.lower() not in OUTPUT_SUFFIXES:
            yield (
                f"output={self.output}: the form is told by the suffix; choose from"
                f" {', '.join(OUTPUT_SUFFIXES)}, or - for a table on standard output"
            )
        if self.columns is not None and not self.columns:
            yield "columns=[]: name the columns, or leave the key out for those of the training"
