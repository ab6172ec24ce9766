"""``idl export``: the model of a run in a form that other programs read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from idl_cli.commands.export.settings import ExportSettings
from idl_cli.requests.specification import Command

if TYPE_CHECKING:
    from idl_cli.reporting import Reporter
    from idl_cli.run import RunDirectory


def export(
    settings: ExportSettings, directory: RunDirectory, console: Reporter
) -> dict[str, object]:
    """Do the work, which needs torch: see ``commands.export.run.run``."""
    from idl_cli.commands.export.run import run

    return run(settings, directory, console)


def complete_overrides(overrides: Sequence[str]) -> list[str]:
    """Put the run's own data set before keys that change it; needs Hydra's parser."""
    from idl_cli.requests.run_dataset import with_dataset_of_run

    return with_dataset_of_run(overrides)


COMMAND: Final = Command(
    name="export",
    schema=ExportSettings,
    work=export,
    complete_overrides=complete_overrides,
    example="run=DIR",
    elsewhere={
        "model": "`idl export` takes the model from run=DIR",
        "trainer": "`idl export` trains nothing; use `idl train`",
        "optimizer": "`idl export` trains nothing; use `idl train`",
        "scheduler": "`idl export` trains nothing; use `idl train`",
        "experiment": "presets say how to train; `idl export` takes all from run=DIR",
        "debug": "`idl export` has no quick looks; they are of `idl train` and `idl sim`",
    },
)
