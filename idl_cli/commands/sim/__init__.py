"""``idl sim``: an implicit model of a teacher's states, by convex optimisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from idl_cli.commands.sim.settings import SimSettings
from idl_cli.requests.specification import Command

if TYPE_CHECKING:
    from idl_cli.reporting import Reporter
    from idl_cli.run import RunDirectory


def sim(settings: SimSettings, directory: RunDirectory, console: Reporter) -> dict[str, object]:
    """Do the work, which needs torch: see ``commands.sim.run.run``."""
    from idl_cli.commands.sim.run import run

    return run(settings, directory, console)


COMMAND: Final = Command(
    name="sim",
    schema=SimSettings,
    work=sim,
    trainer="sim",
    ranks="solver",
    every_device=True,
    granted=("model=implicit",),
    elsewhere={
        "model": "`idl sim` always makes an implicit model, as large as the teacher's states; "
        "other models are trained by `idl train`",
        "model.kappa": "κ of the model that `idl sim` makes is trainer.kappa",
        "optimizer.lr": "`idl sim` solves convex problems, and trains its teacher at teacher.lr; "
        "give that, or use `idl train`",
        "optimizer": "`idl sim` solves convex problems; use `idl train`",
        "scheduler": "`idl sim` solves convex problems; use `idl train`",
    },
)
