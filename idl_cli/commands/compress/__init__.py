"""``idl compress``: the implicit model of a run with fewer states and weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from idl_cli.commands.compress.settings import CompressSettings
from idl_cli.requests.model_of_run import command_on_run

if TYPE_CHECKING:
    from idl_cli.reporting import Reporter
    from idl_cli.run import RunDirectory


def compress(
    settings: CompressSettings, directory: RunDirectory, console: Reporter
) -> dict[str, object]:
    """Do the work, which needs torch: see ``commands.compress.run.run``."""
    from idl_cli.commands.compress.run import run

    return run(settings, directory, console)


def complete_overrides(overrides: Sequence[str]) -> list[str]:
    """Take the data set of the run, or put it before keys that change it."""
    from idl_cli.requests.run_dataset import with_data_of_run, with_dataset_of_run

    return with_data_of_run(with_dataset_of_run(overrides), "run")


COMMAND: Final = command_on_run(
    "compress", CompressSettings, compress, complete_overrides=complete_overrides
)
