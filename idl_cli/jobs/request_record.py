"""``.hydra/`` of a run, ``multirun.yaml`` of a sweep: the request as composed, without secrets.

Written here and not by Hydra, which would write secrets too, and over the files of a run that is
continued before anyone knows whether it may be.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from omegaconf import DictConfig, ListConfig, OmegaConf

from idl_cli.masking import masked
from idl_cli.run.files import write_atomic
from idl_cli.run.records import HYDRA

if TYPE_CHECKING:
    from idl_cli.run import RunDirectory

MULTIRUN: Final = "multirun.yaml"


def record_request(directory: RunDirectory, config: DictConfig, hydra: DictConfig) -> None:
    """Write down what a run was asked for.

    Args:
        directory: of the run.
        config: the command's own part of the configuration.
        hydra: Hydra's part, the section ``hydra`` alone.
    """
    directory.write_text(f"{HYDRA}/config.yaml", _yaml(config))
    directory.write_text(f"{HYDRA}/hydra.yaml", _yaml(hydra))
    directory.write_text(f"{HYDRA}/overrides.yaml", _yaml(hydra.hydra.overrides.task))


def mask_multirun(sweep: Path, config: DictConfig) -> None:
    """Write the configuration of a sweep over what Hydra has written of it."""
    write_atomic(sweep / MULTIRUN, _yaml(config).encode())


def _yaml(config: DictConfig | ListConfig) -> str:
    plain = OmegaConf.to_container(config, resolve=False, enum_to_str=True)
    return OmegaConf.to_yaml(OmegaConf.create(masked(plain)))
