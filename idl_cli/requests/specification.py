"""What each Hydra command is: its root schema, the trainer it fixes, what it calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType, NoneType
from typing import Final, get_args, get_type_hints

from idl_cli.config.fields import Section
from idl_cli.config.options import OVERLAYS
from idl_cli.config.schemas.root import EvalSettings, SimSettings, TrainSettings


@dataclass(frozen=True)
class Command:
    """A sub-command whose request is a composed configuration.

    Attributes:
        name: the sub-command; also its root configuration's name.
        schema: the dataclass of its root keys.
        target: ``"module:function"`` called with the checked settings.
        elsewhere: for keys that belong to another command, what to do instead.
        trainer: the one trainer it runs, None when it trains nothing.
        granted: choices of groups it does not have that say what it does anyway.
    """

    name: str
    schema: type
    target: str
    elsewhere: Mapping[str, str]
    trainer: str | None = None
    granted: tuple[str, ...] = ()

    @property
    def sections(self) -> tuple[str, ...]:
        """The config groups that fill a root key of this command."""
        return tuple(group for group, _ in self._section_hints())

    @property
    def groups(self) -> tuple[str, ...]:
        """The config groups whose options this command takes, presets and quick looks included."""
        return (*self.sections, *(group for group in OVERLAYS if group not in self.elsewhere))

    @property
    def optional_groups(self) -> tuple[str, ...]:
        """Those of its groups in which nothing need be chosen."""
        needed = {group for group, optional in self._section_hints() if not optional}
        return tuple(group for group in self.groups if group not in needed)

    def _section_hints(self) -> Iterator[tuple[str, bool]]:
        """The group of every root key that has one, and whether the key may be null."""
        for hint in get_type_hints(self.schema, include_extras=True).values():
            parts = (hint, *get_args(hint))
            for mark in (each for part in parts for each in getattr(part, "__metadata__", ())):
                if isinstance(mark, Section):
                    yield mark.group, NoneType in parts


COMMANDS: Final[Mapping[str, Command]] = MappingProxyType(
    {
        "train": Command(
            "train",
            TrainSettings,
            "idl_cli.commands.train.run:run",
            trainer="gradient",
            elsewhere=MappingProxyType(
                {
                    "solver": "solvers train from a teacher's states; use `idl sim`",
                    "teacher": "a teacher's states are what `idl sim` trains from; use `idl sim`",
                }
            ),
        ),
        "sim": Command(
            "sim",
            SimSettings,
            "idl_cli.commands.sim.run:run",
            trainer="sim",
            granted=("model=implicit",),
            elsewhere=MappingProxyType(
                {
                    "model": "`idl sim` always makes an implicit model, as large as the teacher's "
                    "states; other models are trained by `idl train`",
                    "model.kappa": "κ of the model that `idl sim` makes is trainer.kappa",
                    "optimizer.lr": "`idl sim` solves convex problems, and trains its teacher at "
                    "teacher.lr; give that, or use `idl train`",
                    "optimizer": "`idl sim` solves convex problems; use `idl train`",
                    "scheduler": "`idl sim` solves convex problems; use `idl train`",
                }
            ),
        ),
        "eval": Command(
            "eval",
            EvalSettings,
            "idl_cli.commands.eval.run:run",
            elsewhere=MappingProxyType(
                {
                    "model": "`idl eval` takes the model from run=DIR",
                    "trainer": "`idl eval` trains nothing; use `idl train`",
                    "optimizer": "`idl eval` trains nothing; use `idl train`",
                    "scheduler": "`idl eval` trains nothing; use `idl train`",
                    "experiment": "presets say how to train; `idl eval` takes all from run=DIR",
                    "debug": "`idl eval` has no quick looks; they are of `idl train` and `idl sim`",
                }
            ),
        ),
    }
)
"""The commands that Hydra launches."""


SWEEP_GROUPS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "hydra/launcher": ("basic", "joblib", "submitit_local", "submitit_slurm"),
        "hydra/sweeper": ("basic", "optuna"),
    }
)
"""Groups of Hydra's own that choose how a sweep is run; the options that idl knows of."""


def command_for_trainer(trainer: str) -> str | None:
    """The command that runs a trainer, None when none does."""
    return next((each.name for each in COMMANDS.values() if each.trainer == trainer), None)
