"""The commands whose request is a configuration, as the command line hands them down."""

from __future__ import annotations

from typing import Final

from idl_cli.commands import configured

COMMANDS: Final = configured()
