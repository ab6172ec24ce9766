"""Presets that are another command's: told from the options that they choose."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from idl_cli.config.options import overridden_groups
from idl_cli.requests.specification import COMMANDS, Command


def wrong_command(preset: str, file: Path, command: Command) -> str | None:
    """Say which command a preset is for; None where it is for this one, or for none at all.

    Args:
        preset: its name.
        file: its YAML.
        command: the one it was given to.
    """
    needed = overridden_groups(file)
    missing = [group for group in needed if group not in command.sections]
    owners = _commands_with(needed) if missing else []
    if not owners:
        return None
    use = " or ".join(f"`idl {owner} experiment={preset}`" for owner in owners)
    chosen = " and ".join(filter(None, (", ".join(missing[:-1]), missing[-1])))
    refused = f"chooses {chosen}, which `idl {command.name}` does not take"
    return f"experiment={preset}: {refused}; use {use}"


def _commands_with(groups: Iterable[str]) -> list[str]:
    wanted = set(groups)
    return [each.name for each in COMMANDS.values() if wanted <= set(each.sections)]
