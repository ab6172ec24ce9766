"""``format=torch_export``: a program of ``torch.export``, from raw samples to outputs."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch._higher_order_ops import while_loop

from idl_cli.data.files.npy_format import Array
from idl_cli.equilibrium.activations import get_activation
from idl_cli.errors import UnsupportedModelError
from idl_cli.export.deployment import Deployment, Format, Written
from idl_cli.export.equations import Implicit, Recurrent
from idl_cli.export.error_bound import ErrorBound, Floats, least_change
from idl_cli.export.options import TorchExportOptions
from idl_cli.models.differenced import Differenced
from idl_cli.run.files import write_atomic

FILE = "model.pt2"
_MANY = 16  # blocks of a sweep above which as many steps, which are exact too, trace faster
_LOAD = """\
import torch

model = torch.export.load("model.pt2").module()
outputs = model(samples)  # (N, {shape}) of {dtype}, as they are stored
"""


@dataclass(frozen=True, kw_only=True)
class TorchExportFormat(TorchExportOptions, Format):
    """Writes ``model.pt2``; options as in ``configs/format/torch_export.yaml``."""

    def write(self, deployment: Deployment, folder: Path) -> Written:
        """Write the program; its batch size may vary.

        Raises:
            UnsupportedModelError: torch cannot trace the model.
        """
        model, bound = deployment.run.model, None
        inner = model.model if isinstance(model, Differenced) else model
        try:
            equations, _ = deployment.equations
        except UnsupportedModelError:  # an explicit network of a type of its own
            equations = None
        if isinstance(equations, Recurrent):
            raise UnsupportedModelError(
                f"{deployment.run.name}: recurrent networks have no torch.export form here; use"
                " format=onnx, format=numpy or format=safetensors"
            )
        if isinstance(equations, Implicit):
            bound = deployment.bound(
                tolerance=self.tolerance, steps=self.steps, by_samples=self.bound == "data"
            )
            assert bound is not None
            least = 0.0 if self.steps else least_change(equations, bound, self.tolerance)
            inner = _Steps(equations, bound, least)
            if least and bound.steps:
                bound = bound.stopping_by(self.tolerance)
        program = _Program(deployment, model, inner).eval()
        samples = torch.from_numpy(
            np.zeros((2, *deployment.task.input_shape), deployment.raw_dtype)
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of torch's own parts
                exported = torch.export.export(
                    program, (samples,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)
                )
                content = io.BytesIO()
                torch.export.save(exported, content)
        except Exception as error:  # of many types, by what stopped the tracer
            said = str(error).strip().partition("\n")[0]
            raise UnsupportedModelError(
                f"{type(inner).__name__}: torch.export cannot trace it ({said})"
            ) from error
        write_atomic(folder / FILE, content.getvalue())
        loaded = torch.export.load(io.BytesIO(content.getvalue())).module()

        def runtime(raw: Array) -> Floats:
            with torch.no_grad():
                outputs: Tensor = loaded(torch.from_numpy(np.ascontiguousarray(raw)))
            found: Floats = outputs.numpy()
            return found

        shape = ", ".join(map(str, deployment.task.input_shape))
        load = _LOAD.format(shape=shape, dtype=f"torch.{deployment.raw_dtype}")
        return Written(runtime, bound, load, ("torch",))


class _Steps(nn.Module):
    """An implicit model as steps until they are proven to do, K at most; or as one sweep."""

    def __init__(self, equations: Implicit, bound: ErrorBound, least: float) -> None:
        super().__init__()
        for name, array in equations.arrays().items():
            self.register_buffer(name, torch.from_numpy(array).clone())
        self.steps, self.least, self.blocks = bound.steps, least, equations.blocks
        if self.blocks is not None and len(self.blocks) > _MANY:
            self.steps, self.least, self.blocks = len(self.blocks), 0.0, None
        self.factored = len(equations.factors) == 2
        self.activation = get_activation(equations.activation).function

    def forward(self, inputs: Tensor) -> Tensor:
        u = inputs.flatten(1)
        linear, weights = nn.functional.linear, dict(self.named_buffers())
        offset = linear(u, weights["B"], weights["b"])
        if self.blocks is not None:
            x = offset[:, :0]
            for start, stop in self.blocks:
                part = weights["A"][start:stop, stop:]
                block = self.activation(offset[:, start:stop] + linear(x, part))
                x = torch.cat((block, x), dim=1)
        else:
            x = self._stepped(offset, weights)
        return linear(x, weights["C"], weights["c"]) + linear(u, weights["D"])

    def _stepped(self, offset: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """Steps as one loop of the graph, K at most: traced one by one, hundreds take minutes."""

        def unfinished(step: Tensor, x: Tensor, change: Tensor) -> Tensor:
            del x
            return (step < self.steps) & (change > self.least)

        def stepped(step: Tensor, x: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            linear = nn.functional.linear
            read, matrix = (x @ weights["R"], weights["L"]) if self.factored else (x, weights["A"])
            after = self.activation(linear(read, matrix) + offset)
            return step + 1, after, (after - x).abs().max()

        begun = (torch.tensor(0), self.activation(offset), offset.new_full((), torch.inf))
        _, x, _ = while_loop(unfinished, stepped, begun)  # type: ignore[no-untyped-call]
        return cast(Tensor, x)


class _Program(nn.Module):
    """Preprocessing, model and units as one module."""

    def __init__(self, deployment: Deployment, model: nn.Module, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.around = inner, model if isinstance(model, Differenced) else None
        self.dtype = deployment.run.dtype
        preprocessing, scaling = deployment.preprocessing, deployment.task.target_scaling
        self.divisor = preprocessing.divisor
        self.normalized, self.scaled = preprocessing.normalize != "none", scaling is not None
        exact = self.normalized and deployment.raw_dtype == np.float64
        self.within = torch.float64 if exact else self.dtype
        for name in ("mean", "std"):
            own = torch.tensor(getattr(preprocessing, name), dtype=torch.float64)
            if self.normalized:
                own = own.reshape(preprocessing.statistics_shape)
            self.register_buffer(name, own.to(self.within))
            target = () if scaling is None else getattr(scaling, name)
            self.register_buffer(f"target_{name}", torch.tensor(target, dtype=torch.float64))

    def forward(self, raw: Tensor) -> Tensor:
        fixed = dict(self.named_buffers(recurse=False))
        u = raw.to(self.within)
        if self.divisor != 1.0:
            u = u / self.divisor
        if self.normalized:
            u = (u - fixed["mean"]) / fixed["std"]
        u = u.to(self.dtype)
        if self.around is None:
            outputs: Tensor = self.inner(u)
        else:
            around = self.around
            changes = torch.diff(u, dim=1, prepend=u[:, :1]) / around.input_scale
            predicted = self.inner(changes)
            outputs = u[:, -1, around.target, None] + (around.mean + around.scale * predicted)
        if self.scaled:
            outputs = outputs.double() * fixed["target_std"] + fixed["target_mean"]
        return outputs
