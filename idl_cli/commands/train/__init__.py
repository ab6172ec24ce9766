"""``idl train``: a model trained by gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from idl_cli.commands.train.settings import TrainSettings
from idl_cli.requests.specification import Command

if TYPE_CHECKING:
    from idl_cli.reporting import Reporter
    from idl_cli.run import RunDirectory


def train(settings: TrainSettings, directory: RunDirectory, console: Reporter) -> dict[str, object]:
    """Do the work, which needs torch: see ``commands.train.run.run``."""
    from idl_cli.commands.train.run import run

    return run(settings, directory, console)


COMMAND: Final = Command(
    name="train",
    schema=TrainSettings,
    work=train,
    trainer="gradient",
    ranks="trainer",
    elsewhere={
        "solver": "solvers train from a teacher's states; use `idl sim`",
        "teacher": "a teacher's states are what `idl sim` trains from; use `idl sim`",
    },
)
