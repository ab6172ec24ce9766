"""``idl eval run=DIR dataset.KEY=VALUE``: the data set of the run, with some keys changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from idl_cli.errors import ConfigError, IdlError
from idl_cli.requests.overrides import quoted
from idl_cli.run import read_record

_SECTION = "dataset"


def with_dataset_of_run(overrides: Sequence[str]) -> list[str]:
    """Put the run's own data set before the keys that change it.

    Args:
        overrides: of ``idl eval``.

    Returns:
        The same overrides where they change no key of a data set or choose one themselves.

    Raises:
        ConfigError: keys are changed, and no single run says of which data set.
    """
    keys = [text.lstrip("+~").partition("=")[0] for text in overrides]
    changed = next((text for text in overrides if _is_key(text)), None)
    if changed is None or _SECTION in keys:
        return list(overrides)
    run = _run(overrides, "run")
    if run is None:
        raise ConfigError([f"{changed}: of which data set? Give dataset=OPTION, or one run=DIR"])
    try:
        chosen = read_record(run).config.get(_SECTION)
    except IdlError as error:
        raise ConfigError([f"run={run}: {error}"]) from error
    if not isinstance(chosen, Mapping) or "name" not in chosen:
        raise ConfigError([f"{changed}: run={run} says nothing of its data set; give dataset=NAME"])
    return [*_choice(chosen), *overrides]


def with_data_of_run(overrides: Sequence[str], key: str) -> list[str]:
    """Put the data set and the seed of a run first, where none are given.

    Args:
        overrides: of a command that works on the model of a run.
        key: that names the run.

    Returns:
        The same overrides where they choose a data set, or no single run that says of one.

    Raises:
        ConfigError: the run cannot be read.
    """
    keys = [text.lstrip("+~").partition("=")[0] for text in overrides]
    run = None if _SECTION in keys else _run(overrides, key)
    if run is None or not run.is_dir():
        return list(overrides)
    try:
        config = read_record(run).config
    except IdlError as error:
        raise ConfigError([f"{key}={run}: {error}"]) from error
    chosen = config.get(_SECTION)
    if not isinstance(chosen, Mapping) or "name" not in chosen:
        return list(overrides)
    seed = [] if "seed" in keys or "seed" not in config else [f"seed={config['seed']}"]
    return [*_choice(chosen), *seed, *overrides]


def _choice(chosen: Mapping[str, object]) -> list[str]:
    own = [f"++{_SECTION}.{key}={_text(chosen[key])}" for key in chosen if key != "name"]
    return [f"{_SECTION}={chosen['name']}", *own]


def _is_key(text: str) -> bool:
    return text.lstrip("+~").startswith(f"{_SECTION}.")


def _run(overrides: Sequence[str], key: str) -> Path | None:
    for text in overrides:
        if text.partition("=")[0] == key:
            try:
                override = OverridesParser.create().parse_override(text)
            except (HydraException, ValueError):
                return None
            value = None if override.is_sweep_override() else override.value()
            return Path(str(value)).expanduser() if value else None
    return None


def _text(value: object) -> str:
    """The value as Hydra's grammar reads it back."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_text(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_text(each) for each in value) + "]"
    if isinstance(value, str):
        return quoted(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)
