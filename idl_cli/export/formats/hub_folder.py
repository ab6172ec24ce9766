"""``format=hub``: a folder that can be uploaded to a model hub as it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from idl_cli.errors import UnsupportedModelError
from idl_cli.export.deployment import Deployment, Format, Written
from idl_cli.export.formats.numpy_folder import NumpyFormat
from idl_cli.export.formats.safetensors_file import SafetensorsFormat
from idl_cli.export.options import HubOptions

_NUMPY = "numpy"


@dataclass(frozen=True, kw_only=True)
class HubFormat(HubOptions, Format):
    """Writes what safetensors and numpy do; options as in ``configs/format/hub.yaml``."""

    def write(self, deployment: Deployment, folder: Path) -> Written:
        """Write the weights for idl, and in ``numpy/`` those for NumPy where there is that form."""
        written = SafetensorsFormat().write(deployment, folder)
        try:
            inner = folder / _NUMPY
            inner.mkdir()
            alone = NumpyFormat(tolerance=self.tolerance).write(deployment, inner)
        except UnsupportedModelError as error:
            for file in inner.iterdir():
                file.unlink()
            inner.rmdir()
            return Written(written.runtime, None, written.load, written.needs, (str(error),))
        load = f"{written.load}\nWith NumPy alone, in `{_NUMPY}/`:\n\n{alone.load}"
        return Written(alone.runtime, alone.bound, load, ("idl-cli", "or numpy"))
