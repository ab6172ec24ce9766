"""``idl convert``: a feed-forward network as an exact implicit model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from idl_cli.commands.convert.settings import ConvertSettings
from idl_cli.requests.specification import Command

if TYPE_CHECKING:
    from idl_cli.reporting import Reporter
    from idl_cli.run import RunDirectory


def convert(
    settings: ConvertSettings, directory: RunDirectory, console: Reporter
) -> dict[str, object]:
    """Do the work, which needs torch: see ``commands.convert.run.run``."""
    from idl_cli.commands.convert.run import run

    return run(settings, directory, console)


def complete_overrides(overrides: Sequence[str]) -> list[str]:
    """Take the data set of the run whose network is converted; needs Hydra's parser."""
    from idl_cli.requests.run_dataset import with_data_of_run

    return with_data_of_run(overrides, "teacher.run")


COMMAND: Final = Command(
    name="convert",
    schema=ConvertSettings,
    work=convert,
    complete_overrides=complete_overrides,
    example="teacher=run teacher.run=DIR",
    elsewhere={
        "model": "`idl convert` always makes a sparse implicit model of its teacher",
        "trainer": "`idl convert` trains nothing but a teacher; use `idl train` or `idl sim`",
        "optimizer": "`idl convert` trains nothing but a teacher; use `idl train`",
        "scheduler": "`idl convert` trains nothing but a teacher; use `idl train`",
        "experiment": "presets say how to train; `idl convert` takes a network as it is",
        "debug": "`idl convert` has no quick looks; they are of `idl train` and `idl sim`",
    },
)
