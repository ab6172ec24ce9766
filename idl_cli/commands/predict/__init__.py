"""``idl predict``: the model of a run, applied to a file of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from idl_cli.commands.predict.settings import PredictSettings
from idl_cli.requests.model_of_run import command_on_run

if TYPE_CHECKING:
    from idl_cli.reporting import Reporter
    from idl_cli.run import RunDirectory


def predict(
    settings: PredictSettings, directory: RunDirectory, console: Reporter
) -> dict[str, object]:
    """Do the work, which needs torch: see ``commands.predict.run.run``."""
    from idl_cli.commands.predict.run import run

    return run(settings, directory, console)


COMMAND: Final = command_on_run(
    "predict",
    PredictSettings,
    predict,
    example="run=DIR input=FILE",
    complete_overrides=list,
    elsewhere={"dataset": "`idl predict` reads input=FILE; `idl eval` measures on a data set"},
)
