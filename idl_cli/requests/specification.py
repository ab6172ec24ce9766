"""What a command is whose request is a configuration: its keys, the trainer it fixes, its work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType, NoneType
from typing import Final, TypeAlias, get_args, get_type_hints

from idl_cli.config.fields import Section
from idl_cli.config.options import OVERLAYS


@dataclass(frozen=True, kw_only=True)
class Command:
    """A sub-command whose request is a composed configuration; travels to other processes.

    Attributes:
        name: the sub-command; also its root configuration's name.
        schema: the dataclass of its root keys, best a ``config.schemas.root.RunSettings``.
        work: called as ``work(settings, directory, console)`` with the checked settings, the run
            directory and a ``Reporter``; a function of its module, since other processes import
            it. Returns ``metrics`` and further sections of ``summary.json``.
        elsewhere: for keys that belong to another command, what to do instead.
        trainer: the one trainer it runs, None when it trains nothing.
        granted: choices of groups it does not have that say what it does anyway.
        ranks: the section whose keys ``devices`` and ``processes`` say on how many processes it
            works; None where that is one.
        every_device: whether ``devices: null`` there means all GPUs, rather than one.
        complete_overrides: what the user typed → what is composed.
        example: what it cannot be without, for the examples of its help page.
    """

    name: str
    schema: type
    work: Callable[..., dict[str, object]]
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    trainer: str | None = None
    granted: tuple[str, ...] = ()
    ranks: str | None = None
    every_device: bool = False
    complete_overrides: Callable[[Sequence[str]], list[str]] = list
    example: str = ""

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


SWEEP_GROUPS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "hydra/launcher": ("basic", "joblib", "submitit_local", "submitit_slurm"),
        "hydra/sweeper": ("basic", "optuna"),
    }
)
"""Groups of Hydra's own that choose how a sweep is run; the options that idl knows of."""


Commands: TypeAlias = Mapping[str, Command]
"""The commands in existence, by name."""


def command_for_trainer(trainer: str, commands: Commands) -> str | None:
    """The command that runs a trainer, None when none does."""
    return next((each.name for each in commands.values() if each.trainer == trainer), None)


def commands_with(groups: Iterable[str], commands: Commands) -> list[str]:
    """The commands that have all of some groups."""
    wanted = set(groups)
    return [each.name for each in commands.values() if wanted <= set(each.sections)]
