"""Options of the export formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from idl_cli.config.fields import AT_LEAST_ONE, FINITE_POSITIVE, Extra, Range

Steps = Annotated[int, AT_LEAST_ONE] | None


@dataclass(frozen=True, kw_only=True)
class StepsOptions:
    """How an equilibrium becomes a fixed number of steps."""

    tolerance: Annotated[float, FINITE_POSITIVE] = 1e-4
    steps: Steps = None
    bound: Literal["range", "data"] = "range"


@dataclass(frozen=True, kw_only=True)
class OnnxOptions(StepsOptions):
    """One ONNX file: preprocessing, model and units; sparse weights packed."""

    loop: bool = False
    opset: Annotated[int, Range(17, 22)] = 17

    @staticmethod
    def extras(section: Mapping[str, Any]) -> Iterator[Extra]:
        """The libraries that write the file and that check it."""
        del section
        yield Extra("export", "onnx", "ONNX")
        yield Extra("export", "onnxruntime", "ONNX Runtime")


@dataclass(frozen=True, kw_only=True)
class NumpyOptions(StepsOptions):
    """A folder with the weights and a predict.py that needs NumPy alone."""


@dataclass(frozen=True, kw_only=True)
class TorchExportOptions(StepsOptions):
    """A program of torch.export in a .pt2 file, which needs torch alone."""


@dataclass(frozen=True, kw_only=True)
class SafetensorsOptions:
    """The weights as safetensors and a JSON description; idl reads them back."""


@dataclass(frozen=True, kw_only=True)
class HubOptions:
    """A folder to upload to a model hub: weights, description, predict.py, model card."""

    tolerance: Annotated[float, FINITE_POSITIVE] = 1e-4
