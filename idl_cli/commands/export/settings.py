"""The root keys of ``idl export``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from idl_cli.config.fields import RECORD, Existing, Pattern, Section
from idl_cli.config.schemas.root import Component, RunSettings

_LICENCE = Pattern(r"[a-z0-9][a-z0-9.\-]*", "an identifier of the hub, such as mit or apache-2.0")


@dataclass(frozen=True, kw_only=True)
class _Exported:
    """What is exported; a base, since the fields of later bases stand first."""

    run: Annotated[str, Existing("directory")]
    format: Annotated[Component, Section("format")]
    dataset: Annotated[Component, Section("dataset")] | None = None
    output: str | None = None
    license: Annotated[str, _LICENCE] = "other"
    latency: bool = True


@dataclass(frozen=True, kw_only=True)
class ExportSettings(RunSettings, _Exported):
    """Write the model of a finished run in a form that other programs read."""

    report: bool = field(default=False, metadata=RECORD)
