"""``idl eval``: the model of a run, measured on its own or on another data set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from idl_cli.commands.eval.settings import EvalSettings
from idl_cli.requests.model_of_run import command_on_run

if TYPE_CHECKING:
    from idl_cli.reporting import Reporter
    from idl_cli.run import RunDirectory


def evaluate(
    settings: EvalSettings, directory: RunDirectory, console: Reporter
) -> dict[str, object]:
    """Do the work, which needs torch: see ``commands.eval.run.run``."""
    from idl_cli.commands.eval.run import run

    return run(settings, directory, console)


COMMAND: Final = command_on_run("eval", EvalSettings, evaluate)
