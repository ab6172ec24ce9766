"""``sweep.resume=DIR``: which sweep goes on, and with what request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from idl_cli.errors import ConfigError
from idl_cli.requests.key_roles import role_of
from idl_cli.requests.overrides import is_of_hydra, key_of, only_drops
from idl_cli.sweeps.recorded_overrides import jobs_outside, refusals

if TYPE_CHECKING:
    from idl_cli.sweeps.sweep_plan import SweepPlan

_KEY: Final = "sweep.resume"
_SWEEPER: Final = "hydra/sweeper"
_GRID: Final = "basic"
_LAUNCHER: Final = "hydra/launcher"


@dataclass(frozen=True)
class Continuation:
    """A sweep that goes on.

    Attributes:
        plan: what it was to run, and where.
        overrides: the request to go on with: what the sweep was asked for, with what is new.
        new_values: those typed now that make other jobs than the sweep was begun with.
    """

    plan: SweepPlan
    overrides: tuple[str, ...]
    new_values: tuple[str, ...] = ()

    @property
    def recorded_request(self) -> str:
        """What the sweep was asked for, to stand beside a mistake that may come from there."""
        return (
            f"{_KEY}={self.plan.directory} keeps what the sweep was asked for "
            f"({' '.join(self.plan.request)}); KEY=VALUE takes the place of its own, ~KEY drops it"
        )

    def refuse_new_values(self) -> None:
        """Refuse values that would change what a study has compared so far.

        Raises:
            ConfigError: there are some.
        """
        if self.new_values:
            raise ConfigError(
                [
                    f"{' '.join(self.new_values)}: the trials of a study are compared with each "
                    f"other, so what they run stays as it was begun ({' '.join(self.plan.request)})"
                    "; leave it out, or start another study (another hydra.sweep.dir)"
                ]
            )


def continuation(command: str, overrides: Sequence[str]) -> Continuation | None:
    """Return the sweep that a request continues, None where it continues none.

    ``sweep.resume=DIR`` repeats what the sweep was asked for. A key typed beside it takes the
    place of the request's own, ``~KEY`` drops it; what neither names stays. Keys whose role keeps
    the job (``device``, ``logger``), and those of ``hydra``, hold for all jobs that are left,
    others make new jobs.

    Args:
        command: the sub-command.
        overrides: what the user typed behind it.

    Raises:
        RequestError: the directory holds no sweep of this command.
        ConfigError: what is typed beside it cannot be added to the sweep.
        RunError: it is still running, or its plan is damaged.
    """
    named = [text for text in overrides if key_of(text) == _KEY]
    if not named:
        return None
    value = named[-1].partition("=")[2].strip("'\"")
    others = [text for text in overrides if key_of(text) != _KEY]
    if value == "null":
        return None
    if not value:  # an empty variable of a script's must not start another sweep
        raise ConfigError([f"{_KEY}=: names no directory; give that of a sweep, or null"])
    if any(key_of(text) == "hydra.sweep.dir" for text in others):
        raise ConfigError([f"hydra.sweep.dir: the sweep goes on in {_KEY}={value}; leave it out"])
    return _with_request(value, command, others)


def _with_request(directory: str, command: str, others: Sequence[str]) -> Continuation:
    from idl_cli.sweeps.recorded_plan import read_plan
    from idl_cli.sweeps.sweep_plan import identity_of

    plan = read_plan(Path(directory), command)
    problems = list(_other_sweeper(plan, others))
    how = [text for text in others if role_of(key_of(text)).keeps_the_job]
    problems += plan.adopt(how)
    recorded = [*plan.request, *(text for added in plan.added for text in added)]
    given = frozenset(map(key_of, others))
    problems += refusals(plan.directory, recorded, plan.jobs.values(), given)
    problems += jobs_outside(plan.directory, plan.jobs)
    if problems:
        raise ConfigError(problems)
    begun = set(identity_of(plan.request))
    new = [
        text
        for text in others
        if not (is_of_hydra(text) or text in how or begun.issuperset(identity_of([text])))
    ]
    plan.finish = not new
    return Continuation(plan, tuple(_merged(plan.request, others)), tuple(new))


def _merged(request: Sequence[str], others: Sequence[str]) -> Iterator[str]:
    """The request with other overrides on top; one that is dropped leaves nothing behind.

    The settings of a launcher that another one takes the place of go with it.
    """
    given = {key_of(text) for text in others}
    launcher = "hydra.launcher." if _LAUNCHER in given else None
    for text in request:
        key = key_of(text)
        if key not in given and not (launcher and key.startswith(launcher)):
            yield text
    for text in others:
        if not only_drops(text, request):
            yield text


def _other_sweeper(plan: SweepPlan, others: Sequence[str]) -> Iterator[str]:
    begun, wanted = _sweeper(plan.request), _sweeper(others)
    if wanted is not None and wanted != (begun or _GRID):
        yield (
            f"{_SWEEPER}={wanted}: the sweep in {plan.directory} was begun with "
            f"{_SWEEPER}={begun or _GRID}; keep that, or start another sweep"
        )


def _sweeper(overrides: Sequence[str]) -> str | None:
    chosen = [text.partition("=")[2] for text in overrides if key_of(text) == _SWEEPER]
    return chosen[-1] if chosen else None
