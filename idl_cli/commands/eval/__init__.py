"""``idl eval``: the model of a run, measured on its own or on another data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from idl_cli.commands.eval.settings import EvalSettings
from idl_cli.requests.specification import Command

if TYPE_CHECKING:
    from idl_cli.reporting import Reporter
    from idl_cli.run import RunDirectory


def evaluate(
    settings: EvalSettings, directory: RunDirectory, console: Reporter
) -> dict[str, object]:
    """Do the work, which needs torch: see ``commands.eval.run.run``."""
    from idl_cli.commands.eval.run import run

    return run(settings, directory, console)


def complete_overrides(overrides: Sequence[str]) -> list[str]:
    """Put the run's own data set before keys that change it; needs Hydra's parser."""
    from idl_cli.requests.run_dataset import with_dataset_of_run

    return with_dataset_of_run(overrides)


COMMAND: Final = Command(
    name="eval",
    schema=EvalSettings,
    work=evaluate,
    complete_overrides=complete_overrides,
    example="run=DIR",
    elsewhere={
        "model": "`idl eval` takes the model from run=DIR",
        "trainer": "`idl eval` trains nothing; use `idl train`",
        "optimizer": "`idl eval` trains nothing; use `idl train`",
        "scheduler": "`idl eval` trains nothing; use `idl train`",
        "experiment": "presets say how to train; `idl eval` takes all from run=DIR",
        "debug": "`idl eval` has no quick looks; they are of `idl train` and `idl sim`",
    },
)
