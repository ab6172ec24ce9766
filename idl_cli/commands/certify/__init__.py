"""``idl certify``: proven robustness of a run's model, with attacks beside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from idl_cli.commands.certify.settings import CertifySettings
from idl_cli.requests.specification import Command

if TYPE_CHECKING:
    from idl_cli.reporting import Reporter
    from idl_cli.run import RunDirectory


def certify(
    settings: CertifySettings, directory: RunDirectory, console: Reporter
) -> dict[str, object]:
    """Do the work, which needs torch: see ``commands.certify.run.run``."""
    from idl_cli.commands.certify.run import run

    return run(settings, directory, console)


def complete_overrides(overrides: Sequence[str]) -> list[str]:
    """Put the run's own data set before keys that change it; needs Hydra's parser."""
    from idl_cli.requests.run_dataset import with_dataset_of_run

    return with_dataset_of_run(overrides)


COMMAND: Final = Command(
    name="certify",
    schema=CertifySettings,
    work=certify,
    complete_overrides=complete_overrides,
    example="run=DIR",
    elsewhere={
        "model": "`idl certify` takes the model from run=DIR",
        "trainer": "`idl certify` trains nothing; use `idl train`",
        "optimizer": "`idl certify` trains nothing; use `idl train`",
        "scheduler": "`idl certify` trains nothing; use `idl train`",
        "experiment": "presets say how to train; `idl certify` takes all from run=DIR",
        "debug": "`idl certify` has no quick looks; take fewer samples",
    },
)
