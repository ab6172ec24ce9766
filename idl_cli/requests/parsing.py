"""The overrides of a request, one by one: parsed with Hydra's own parser, and judged alone."""

from __future__ import annotations

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException

from idl_cli.requests.mistakes import mistakes, unreadable
from idl_cli.requests.overrides import value_texts
from idl_cli.requests.request import Request


def parsed(request: Request) -> tuple[list[Override], list[str]]:
    """Parse the overrides; those that no composition could take become problems."""
    parser = OverridesParser.create()
    kept: list[Override] = []
    problems: list[str] = []
    for text in request.overrides:
        try:
            override = parser.parse_override(_without_needless_plus(text, request))
        except (HydraException, ValueError) as error:  # ValueError: more digits than Python reads
            problems.append(unreadable(text, error, request))
            continue
        if override.is_sweep_override() and override.is_hydra_override():
            problems.append(
                f"{text}: the commas make it several values, and Hydra's own keys take one; write "
                f"it in quotes, {override.key_or_group}='VALUE', or as a list, [...]"
            )
            continue
        if override.is_sweep_override() and not request.multirun:
            problems.append(
                f"{text}: several values are a sweep; add -m to run one job a value, or write "
                f"{override.key_or_group}=[...] for one list"
            )
        if override.is_sweep_override() and not _has_values(override):
            problems.append(f"{text}: names no value; give at least one")
            continue
        if override.input_line in request.command.granted:
            continue
        if _is_default(override, request):
            continue
        found = list(mistakes(override, request))
        problems += found
        if not found:
            kept.append(override)
    return kept, problems


def _has_values(override: Override) -> bool:
    """Whether a sweep has a first value; what only Hydra finds, as ``glob(*)`` does, may."""
    if isinstance(override.value(), Glob):
        return True
    try:
        return next(value_texts(override), None) is not None
    except ValueError:  # range(0, 1, 0)
        return False


def _without_needless_plus(text: str, request: Request) -> str:
    """``+experiment=x`` as ``experiment=x``: every group of the command is in its defaults."""
    bare = text.lstrip("+")
    return bare if bare.partition("=")[0] in request.command.groups else text


def _is_default(override: Override, request: Request) -> bool:
    """Whether ``GROUP=null`` or ``~GROUP`` asks for nothing where nothing is chosen anyway.

    Handed on, it would remove what other defaults of the command are made from.
    """
    group = override.key_or_group
    if group not in request.command.optional_groups or not request.chooses_nothing(group):
        return False
    return override.is_delete() or (not override.is_sweep_override() and override.value() is None)
