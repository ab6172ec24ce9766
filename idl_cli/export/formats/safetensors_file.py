"""``format=safetensors``: the weights and their description, as idl reads them back."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from idl_cli.data.files.npy_format import Array
from idl_cli.export.deployment import Deployment, Format, Written
from idl_cli.export.error_bound import Floats
from idl_cli.export.options import SafetensorsOptions
from idl_cli.run import load_run
from idl_cli.run.model_file import MODEL

LOAD = """\
from idl_cli import load_model  # pip install idl-cli

model = load_model(".")  # this folder; model(u) takes preprocessed inputs
# idl predict run=. input=SAMPLES.npy output=PREDICTIONS.csv takes them as they are stored
"""


@dataclass(frozen=True, kw_only=True)
class SafetensorsFormat(SafetensorsOptions, Format):
    """Writes ``model.safetensors`` and ``model.json``."""

    def write(self, deployment: Deployment, folder: Path) -> Written:
        """Copy the run's files, which are of this form."""
        for suffix in ("safetensors", "json"):
            shutil.copyfile(deployment.run.path / f"{MODEL}.{suffix}", folder / f"{MODEL}.{suffix}")
        read = load_run(folder)
        again = Deployment(read, deployment.task, deployment.dataset, {}, {})

        def runtime(raw: Array) -> Floats:
            return again.own_outputs(torch.from_numpy(raw))

        return Written(runtime, None, LOAD, ("idl-cli",))
