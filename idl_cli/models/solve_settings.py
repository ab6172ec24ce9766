"""Settings of solves as a caller may give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings
from idl_cli.errors import ArgumentError

SettingsT = TypeVar("SettingsT", FixedPointSettings, AdjointSettings)


def settings_of(settings_type: type[SettingsT], given: object, name: str) -> SettingsT:
    """Return settings given as such, as a mapping of their fields, or not at all.

    Args:
        settings_type: what is to be had.
        given: settings, a mapping of their fields, or None for the defaults.
        name: of the argument, for messages.

    Raises:
        ArgumentError: it is something else, or names a field that there is not.
    """
    if given is None:
        return settings_type()
    if isinstance(given, settings_type):
        return given
    if not isinstance(given, Mapping):
        raise ArgumentError(
            f"{name}={given!r} must be {settings_type.__name__} or a mapping of its fields."
        )
    allowed = settings_type.__dataclass_fields__
    unknown = [key for key in given if key not in allowed]
    if unknown:
        raise ArgumentError(
            f"{name} has no {', '.join(map(repr, unknown))}: choose from {', '.join(allowed)}."
        )
    return settings_type(**given)
