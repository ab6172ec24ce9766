"""``resume=auto|PATH``: which checkpoint a training continues, and whether it may."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, cast

from idl_cli import registry
from idl_cli.commands.train.settings import TrainSettings
from idl_cli.config.check import schema_defaults
from idl_cli.errors import ConfigError, RunError
from idl_cli.masking import masked
from idl_cli.requests.key_roles import differences
from idl_cli.run import CHECKPOINTS, RunDirectory
from idl_cli.run.state import read_state
from idl_cli.training.trainer import Trainer

_OF_STATES: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What restoring raises where a state is not one that this training wrote."""

_LENGTH_FREE_SCHEDULES = ("constant", "step")


@dataclass(frozen=True)
class Resumption:
    """A checkpoint to continue from.

    Attributes:
        path: the run directory it is in.
        state: what was saved.
    """

    path: Path
    state: Mapping[str, Any]

    def restore(self, trainer: Trainer, directory: RunDirectory) -> None:
        """Bring a trainer and the metrics of its run to the state of the checkpoint.

        Raises:
            RunError: the checkpoint does not fit the trainer.
        """
        if self.path.resolve() != directory.path.resolve():
            directory.adopt(self.path)
        try:
            directory.truncate_metrics(self.state["metrics_rows"])
            trainer.load_state_dict(self.state["trainer"])
        except _OF_STATES as error:
            raise RunError(
                f"{_checkpoint(self.path)}: does not fit this training: {error}"
            ) from error


def find_resumption(settings: TrainSettings, directory: RunDirectory) -> Resumption | None:
    """Return the checkpoint that ``resume`` asks for; None to start anew.

    ``auto`` continues the run in the run's own directory if it has a checkpoint; a path names
    another run's directory, whose metrics and checkpoints are copied first.

    Raises:
        RunError: there is no checkpoint at the path, or it is damaged.
        ConfigError: the settings differ from those that the checkpoint was made with.
    """
    if settings.resume is None:
        return None
    path = directory.path if settings.resume == "auto" else Path(settings.resume).expanduser()
    checkpoint = _checkpoint(path)
    if not checkpoint.is_file():
        if settings.resume == "auto":
            directory.truncate_metrics(0)
            return None
        raise RunError(
            f"{checkpoint}: no such file; resume={settings.resume} needs a run's directory"
        )
    state = cast(Mapping[str, Any], read_state(checkpoint))
    now = plain(asdict(settings))
    try:
        before = _completed(plain(state["settings"]))
        problems = list(_differences(before, now))
        if not problems:
            _warn_of_another_length(before, now)
    except _OF_STATES as error:
        raise RunError(f"{checkpoint}: not a checkpoint of a training ({error!r})") from error
    if problems:
        raise ConfigError(problems)
    return Resumption(path, state)


def _warn_of_another_length(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    epochs, schedule = before["trainer"]["epochs"], now["scheduler"]["name"]
    if epochs != now["trainer"]["epochs"] and schedule not in _LENGTH_FREE_SCHEDULES:
        warnings.warn(
            f"trainer.epochs={now['trainer']['epochs']}: the run to resume was to have {epochs};"
            f" scheduler={schedule} depends on the length, so from here on the learning rate is"
            " that of the longer or shorter run, and the result not that of an uninterrupted one",
            stacklevel=3,
        )


def _checkpoint(path: Path) -> Path:
    return path / CHECKPOINTS / "last.safetensors"


def plain(settings: Mapping[str, Any]) -> Any:
    """Return settings as JSON gives them back, tuples as lists, and without secrets."""
    return json.loads(json.dumps(masked(settings)))


def _completed(before: Mapping[str, Any]) -> dict[str, Any]:
    """Give keys that a checkpoint is older than their defaults: what was done without them."""
    completed = dict(before)
    for group in registry.groups():
        section = before.get(group)
        if isinstance(section, Mapping) and section.get("name") in registry.names(group):
            schema = registry.find(group, section["name"]).schema
            completed[group] = {**plain(schema_defaults(schema)), **section}
    return completed


def _differences(before: Any, now: Any) -> Iterator[str]:
    for key, old, new in differences(before, now, lambda role: role.may_change_on_resume):
        yield (
            f"{key}={new}: the run to resume has {key}={old}; keep that, or start a new run"
            " (with model.init_run=DIR to begin from its weights)"
        )
