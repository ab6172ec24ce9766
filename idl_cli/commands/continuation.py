"""``sweep.resume=DIR``: which sweep goes on, and with what request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from idl_cli.errors import ConfigError

if TYPE_CHECKING:
    from idl_cli.commands.sweep_plan import SweepPlan

_KEY: Final = "sweep.resume"
_NULL: Final = ("", "null")


@dataclass(frozen=True)
class Continuation:
    """A sweep that goes on.

    Attributes:
        plan: what it was to run, and where.
        overrides: the request to go on with.
    """

    plan: SweepPlan
    overrides: tuple[str, ...]


def continuation(command: str, overrides: Sequence[str]) -> Continuation | None:
    """Return the sweep that a request continues, None where it continues none.

    ``sweep.resume=DIR`` alone repeats what the sweep was asked for; overrides of Hydra's own part
    (another launcher) are added to that. With values of its own, the request stands as it is, so
    that new values can be added.

    Args:
        command: the sub-command.
        overrides: what the user typed behind it.

    Raises:
        RequestError: the directory holds no sweep of this command.
        RunError: it is still running, or its plan is damaged.
    """
    named = [text for text in overrides if _key(text) == _KEY]
    if not named:
        return None
    value = named[-1].partition("=")[2].strip("'\"")
    others = [text for text in overrides if _key(text) != _KEY]
    if value in _NULL:
        return None
    if any(_key(text) == "hydra.sweep.dir" for text in others):
        raise ConfigError([f"hydra.sweep.dir: the sweep goes on in {_KEY}={value}; leave it out"])
    from idl_cli.commands.sweep_plan import read_plan

    plan = read_plan(Path(value), command)
    if all(_is_hydra(text) for text in others):
        given = {_key(text) for text in others}
        others = [*(text for text in plan.request if _key(text) not in given), *others]
    return Continuation(plan, tuple(others))


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _is_hydra(override: str) -> bool:
    return _key(override).startswith(("hydra.", "hydra/"))
