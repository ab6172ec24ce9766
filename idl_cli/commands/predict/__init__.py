"""``idl predict``: the model of a run, applied to a file of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from idl_cli.commands.predict.settings import PredictSettings
from idl_cli.requests.specification import Command

if TYPE_CHECKING:
    from idl_cli.reporting import Reporter
    from idl_cli.run import RunDirectory


def predict(
    settings: PredictSettings, directory: RunDirectory, console: Reporter
) -> dict[str, object]:
    """Do the work, which needs torch: see ``commands.predict.run.run``."""
    from idl_cli.commands.predict.run import run

    return run(settings, directory, console)


COMMAND: Final = Command(
    name="predict",
    schema=PredictSettings,
    work=predict,
    example="run=DIR input=FILE",
    elsewhere={
        "model": "`idl predict` takes the model from run=DIR",
        "dataset": "`idl predict` reads input=FILE; `idl eval` measures on a data set",
        "trainer": "`idl predict` trains nothing; use `idl train`",
        "optimizer": "`idl predict` trains nothing; use `idl train`",
        "scheduler": "`idl predict` trains nothing; use `idl train`",
        "experiment": "presets say how to train; `idl predict` takes all from run=DIR",
        "debug": "`idl predict` has no quick looks; they are of `idl train` and `idl sim`",
    },
)
