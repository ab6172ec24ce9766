"""``idl certify``: proven robustness of a run's model, with attacks beside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from idl_cli.commands.certify.settings import CertifySettings
from idl_cli.requests.model_of_run import command_on_run

if TYPE_CHECKING:
    from idl_cli.reporting import Reporter
    from idl_cli.run import RunDirectory


def certify(
    settings: CertifySettings, directory: RunDirectory, console: Reporter
) -> dict[str, object]:
    """Do the work, which needs torch: see ``commands.certify.run.run``."""
    from idl_cli.commands.certify.run import run

    return run(settings, directory, console)


COMMAND: Final = command_on_run(
    "certify",
    CertifySettings,
    certify,
    elsewhere={"debug": "`idl certify` has no quick looks; take fewer samples"},
)
