"""Compose a command's configuration with Hydra's own composition, without running anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from idl_cli import registry
from idl_cli.config.check import MISSING_VALUE, schema_defaults
from idl_cli.config.options import OVERLAYS, config_directory
from idl_cli.errors import ConfigError
from idl_cli.requests.config_files import checked_files
from idl_cli.requests.specification import Command

VERSION_BASE = "1.3" if tuple(map(int, hydra.__version__.split(".")[:2])) < (1, 4) else None
"""Hydra 1.3 needs to be told not to fall back to 1.1's behaviour; 1.4 deprecates being told."""


@contextmanager
def composer(command: Command, directory: Path | None = None) -> Iterator[None]:
    """Open Hydra's composition for one command and close it again, whatever was open before."""
    GlobalHydra.instance().clear()
    store_root(command)
    hydra_config = HydraConfig.instance()
    before = hydra_config.cfg
    where = str((directory or config_directory()).resolve())
    try:
        with (
            checked_files(),
            hydra.initialize_config_dir(where, job_name=command.name, version_base=VERSION_BASE),
        ):
            yield
    finally:
        hydra_config.cfg = before
        GlobalHydra.instance().clear()


def compose(
    root: str, overrides: Sequence[str], search_path: Sequence[Path] = ()
) -> tuple[DictConfig, DictConfig]:
    """Compose ``root`` inside an open ``composer``.

    A component chosen without a YAML of its own gets one made of its options' defaults.

    Args:
        root: the primary configuration's name.
        overrides: as on the command line, without sweeps.
        search_path: further directories with options, as given by ``--config-dir``.

    Returns:
        The configuration, and Hydra's own part of it.

    Raises:
        HydraException: the overrides make no configuration.
        ConfigError: a file cannot be read.
    """
    added = [f"hydra.searchpath=[{','.join(f'file://{each}' for each in search_path)}]"]
    while True:
        try:
            whole = hydra.compose(
                root, [*(added if search_path else []), *overrides], return_hydra_config=True
            )
            break
        except MissingConfigException as error:
            if not _store_defaults(error.missing_cfg_file):
                raise
        except (OmegaConfBaseException, ConfigError):
            raise
        except ValueError as error:  # a group's choice that is neither a name nor a list
            raise ConfigCompositionException(str(error)) from error
    HydraConfig.instance().set_config(whole)
    own = whole.copy()
    OmegaConf.set_struct(own, False)
    own.pop("hydra")
    return own, whole.hydra


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain nested dicts, interpolations resolved, missing values kept.

    Raises:
        ConfigError: an interpolation leads nowhere.
    """
    try:
        values = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        message = str(error.msg or error).partition("\n")[0]
        raise ConfigError([f"{error.full_key or 'configuration'}: {message}"]) from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _store_defaults(file: str | None) -> bool:
    """Offer a component's defaults to Hydra as ``group/name``; False where there is none."""
    group, _, name = (file or "").removesuffix(".yaml").partition("/")
    if group not in registry.groups() or name not in registry.names(group):
        return False
    store = ConfigStore.instance()
    if f"{name}.yaml" in store.repo.get(group, {}):
        return False
    defaults = schema_defaults(registry.schema_of(group, name))
    store.store(name=name, group=group, node=defaults, package=group)
    return True


def store_root(command: Command) -> None:
    """Offer Hydra a root configuration made from the schema, to a command that has no YAML.

    Its groups choose nothing where they may, and have to be chosen else.
    """
    if (config_directory() / f"{command.name}.yaml").is_file():
        return
    chosen = {
        group: None if group in command.optional_groups else MISSING_VALUE
        for group in command.sections
    }
    if command.trainer is not None:
        chosen["trainer"] = command.trainer
    presets = [{group: None} for group in OVERLAYS if group in command.groups and group != "local"]
    defaults = [
        "_self_",
        *({group: option} for group, option in chosen.items()),
        {"hydra": "default"},
        *presets,
        {"optional local": "default" if command.trainer else None},
    ]
    keys = schema_defaults(command.schema)
    own = {key: value for key, value in keys.items() if key not in command.sections}
    node = {"defaults": defaults, **own, "hydra": {"job": {"name": command.name}}}
    ConfigStore.instance().store(name=command.name, node=node)
