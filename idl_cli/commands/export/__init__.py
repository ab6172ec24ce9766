"""``idl export``: the model of a run in a form that other programs read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from idl_cli.commands.export.settings import ExportSettings
from idl_cli.requests.model_of_run import command_on_run

if TYPE_CHECKING:
    from idl_cli.reporting import Reporter
    from idl_cli.run import RunDirectory


def export(
    settings: ExportSettings, directory: RunDirectory, console: Reporter
) -> dict[str, object]:
    """Do the work, which needs torch: see ``commands.export.run.run``."""
    from idl_cli.commands.export.run import run

    return run(settings, directory, console)


COMMAND: Final = command_on_run("export", ExportSettings, export)
