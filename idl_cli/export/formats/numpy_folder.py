"""``format=numpy``: weights, a description and a one-page ``predict.py`` for NumPy alone."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from idl_cli.data.files.npy_format import Array
from idl_cli.equilibrium.conditions import ACTIVATION_FACTS
from idl_cli.errors import UnsupportedModelError
from idl_cli.export.deployment import Deployment, Format, Written
from idl_cli.export.equations import Implicit, Layers, Recurrent
from idl_cli.export.error_bound import Floats, cell_steps, least_change
from idl_cli.export.formats.numpy_script import ACTIVATIONS, script
from idl_cli.export.options import NumpyOptions
from idl_cli.run.files import json_bytes, write_atomic

_LOAD = """\
import numpy as np

from predict import outputs, predict  # in this folder; python predict.py SAMPLES.npy does as well

samples = np.load("samples.npy")  # (N, {shape}), as they are stored
classes_or_targets = predict(samples)
"""


@dataclass(frozen=True, kw_only=True)
class NumpyFormat(NumpyOptions, Format):
    """Writes the folder; options as in ``configs/format/numpy.yaml``."""

    def write(self, deployment: Deployment, folder: Path) -> Written:
        """Write ``weights.npz``, ``model.json`` and ``predict.py``.

        Raises:
            UnsupportedModelError: the model has layers beyond products, or an activation that is
                not known in NumPy.
        """
        bound = deployment.bound(
            tolerance=self.tolerance, steps=self.steps, by_samples=self.bound == "data"
        )
        equations, changes = deployment.equations
        kind, activation, weights, facts = _described(equations, deployment)
        if activation not in ACTIVATIONS:
            known = ", ".join(name for name in ACTIVATION_FACTS if name in ACTIVATIONS)
            raise UnsupportedModelError(
                f"activation={activation}: predict.py knows {known}; use format=torch_export"
            )
        steps, least = 0, 0.0
        if bound is not None and isinstance(equations, Implicit):
            steps = bound.steps
            least = 0.0 if self.steps else least_change(equations, bound, self.tolerance)
            if least and steps:
                bound = bound.stopping_by(self.tolerance)
        if isinstance(equations, Recurrent) and facts["blocks"] is None:
            bounds = cell_steps(equations, self.tolerance, self.steps)
            swept = [len(cell.blocks or ()) for cell in equations.cells]
            steps = max(*(each.steps for each in bounds), *swept)
        preprocessing, scaling = deployment.preprocessing, deployment.task.target_scaling
        if preprocessing.normalize != "none":
            for name in ("mean", "std"):
                values = np.array(getattr(preprocessing, name))
                weights[name] = values.reshape(preprocessing.statistics_shape)
        if scaling is not None:
            weights |= {"target.mean": np.array(scaling.mean), "target.std": np.array(scaling.std)}
        if changes is not None:
            weights["change.input"] = changes.input_scale
            weights |= {"change.mean": changes.mean, "change.scale": changes.scale}
        description = {
            "shape": deployment.task.input_shape,
            "dtype": str(deployment.run.dtype).removeprefix("torch."),
            "divisor": preprocessing.divisor,
            "class_names": deployment.class_names,
            "target": None if changes is None else changes.target,
            "steps": steps,
            "least_change": least,
            **facts,
        }
        stored = io.BytesIO()
        np.savez_compressed(stored, **weights)  # type: ignore[arg-type]
        write_atomic(folder / "weights.npz", stored.getvalue())
        write_atomic(folder / "model.json", json_bytes(description))
        text = script(kind, activation, deployment.task.input_shape)
        write_atomic(folder / "predict.py", text.encode())
        shape = ", ".join(map(str, deployment.task.input_shape))
        return Written(_runtime(folder), bound, _LOAD.format(shape=shape), ("numpy",))


def _described(
    equations: Implicit | Recurrent | Layers, deployment: Deployment
) -> tuple[str, str, dict[str, Array], dict[str, Any]]:
    """Kind of the model, its activation, its weights by name, and what predict.py asks about it."""
    if isinstance(equations, Implicit):
        blocks = None if equations.blocks is None else {"": equations.blocks}
        return "implicit", equations.activation, equations.arrays(), {"blocks": blocks}
    if isinstance(equations, Recurrent):
        weights = {"weight": equations.weight, "bias": equations.bias}
        swept = {f"{number}.": cell.blocks for number, cell in enumerate(equations.cells)}
        for number, cell in enumerate(equations.cells):
            weights |= {f"{number}.{name}": array for name, array in cell.arrays().items()}
        exact = None if None in swept.values() else swept
        facts = {"blocks": exact, "cells": len(equations.cells)}
        return "recurrent", equations.cells[0].activation, weights, facts
    weights, number = {}, 0
    for module in equations.modules:
        if not isinstance(module, nn.Linear):
            raise UnsupportedModelError(
                f"{deployment.run.name}: predict.py has no {type(module).__name__}; use format=onnx"
            )
        weights[f"{number}.weight"] = module.weight.detach().numpy()
        if module.bias is not None:
            weights[f"{number}.bias"] = module.bias.detach().numpy()
        number += 1
    return "layers", equations.activation, weights, {"blocks": None, "layers": number}


def _runtime(folder: Path) -> Callable[[Array], Floats]:
    """What ``predict.py`` computes, read from the folder as its user's Python would."""
    specification = importlib.util.spec_from_file_location("predict", folder / "predict.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    outputs: Callable[[Array], Floats] = module.outputs
    return outputs
