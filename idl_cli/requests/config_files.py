"""Configurations in files of unknown origin, for OmegaConf and for Hydra's composition."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Final

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from idl_cli.errors import ConfigError, RunError
from idl_cli.run.yaml_files import PARSER_ERRORS, yaml_problem, yaml_text

_ERRORS: Final = (*PARSER_ERRORS, OSError, OmegaConfBaseException, RecursionError)
"""What OmegaConf raises for the content of a file; recursion: of interpolations in one text."""


def load_config(file: Path) -> DictConfig | ListConfig:
    """Load a configuration that a run left behind.

    Raises:
        RunError: the file is missing, unreadable or no configuration.
    """
    text = yaml_text(file)
    if text is None:
        raise RunError(f"{file}: no such file")
    try:
        return OmegaConf.load(StringIO(text))
    except _ERRORS as error:
        raise RunError(f"{file}: {yaml_problem(error)}") from error


class _CheckedFileSource(FileConfigSource):
    """Hydra's reader of YAML files, saying which file is wrong, and where."""

    def load_config(self, config_path: str) -> ConfigResult:
        file = Path(self.path, self._normalize_file_name(config_path))
        try:
            yaml_text(file)
        except RunError as error:
            raise ConfigError([str(error)]) from error
        try:
            return super().load_config(config_path)
        except _ERRORS as error:
            raise ConfigError([f"{file}: {yaml_problem(error)}"]) from error


@contextmanager
def checked_files() -> Iterator[None]:
    """Have Hydra read the files of its compositions through ``_CheckedFileSource``.

    Hydra offers no place to hand a reader of files in, but every composition looks it up here.
    """
    Plugins.instance()  # looks for plug-ins when first asked for, and registers the readers
    sources = SourcesRegistry.instance().types
    before = sources[FileConfigSource.scheme()]
    sources[FileConfigSource.scheme()] = _CheckedFileSource
    try:
        yield
    finally:
        sources[FileConfigSource.scheme()] = before
