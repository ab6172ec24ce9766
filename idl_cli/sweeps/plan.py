"""What a sweep is to run: every job's number and keys, kept in ``jobs.json`` before any starts.

The plan is what lets a sweep be continued after anything, a killed process included: a job is told
by the values it was given, so that it keeps its number and directory however the request is
written, and new values get new numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from idl_cli.config.fields import Role
from idl_cli.errors import RequestError, RunError
from idl_cli.masking import MASK, masked, masked_text
from idl_cli.requests.config_files import load_config
from idl_cli.requests.key_roles import role_of
from idl_cli.requests.output_directory import PLAN
from idl_cli.requests.overrides import is_of_hydra, key_of, only_drops
from idl_cli.run import read_overrides, run_status
from idl_cli.run.files import json_bytes, read_json, write_atomic
from idl_cli.run.lock import is_locked
from idl_cli.run.records import HYDRA
from idl_cli.sweeps.jobs import Job, collect_jobs, planned_job

_DIGEST: Final = "sha256"
_REQUEST: Final = "multirun.yaml"
_PARTS: Final = frozenset({"command", "request", "added", "jobs"})

Identity = tuple[tuple[str, str], ...]


@dataclass
class SweepPlan:
    """The jobs of one sweep.

    Attributes:
        directory: of the sweep.
        command: the sub-command that all jobs run.
        request: what the user typed behind it when the sweep was begun.
        jobs: every job's overrides by its number.
        added: requests by which jobs were added to it.
        finish: whether the jobs that this request does not ask for are to be run too.
        damage: what could not be read of the sweep's own record, so that its jobs' were taken.
    """

    directory: Path
    command: str
    request: tuple[str, ...]
    jobs: dict[int, tuple[str, ...]] = field(default_factory=dict)
    added: list[tuple[str, ...]] = field(default_factory=list)
    finish: bool = False
    damage: str | None = None

    def __post_init__(self) -> None:
        self._placed: set[int] = set()

    @property
    def asked_for(self) -> list[int]:
        """The jobs that a request is about: all of the sweep, or those that were placed."""
        return sorted(self.jobs if self.finish else self._placed)

    def place(self, overrides: Sequence[str], *, repeats: bool) -> int:
        """Return the number of the job with these overrides, a new one if there is none.

        Args:
            overrides: of the job.
            repeats: whether the same values asked for again are another job (a grid may hold
                them twice) or the same one (a sampler may come back to a point).
        """
        identity = identity_of(overrides)
        for number, known in self.jobs.items():
            if identity_of(known) == identity and not (repeats and number in self._placed):
                if any(MASK in text for text in known):  # the record keeps no secrets
                    self.jobs[number] = tuple(overrides)
                self._placed.add(number)
                return number
        number = max(self.jobs, default=-1) + 1
        self.jobs[number] = tuple(overrides)
        self._placed.add(number)
        return number

    def adopt(self, how: Sequence[str]) -> list[str]:
        """Have all jobs run another way: on another device, with another logger.

        Args:
            how: overrides whose keys keep the job (``Role.keeps_the_job``).

        Returns:
            A sentence for each of them in which the jobs differ, so that it cannot hold for all.
        """
        keys = {key_of(text): text for text in how}
        problems = []
        for key, text in keys.items():
            values = {tuple(t for t in lines if key_of(t) == key) for lines in self.jobs.values()}
            if len(values) > 1:
                problems.append(
                    f"{text}: the jobs of {self.directory} are told apart by their {key}; leave it "
                    "out, or start another sweep"
                )
        if not problems:
            new = [text for text in how if not only_drops(text, self.request)]
            for number, lines in self.jobs.items():
                self.jobs[number] = (*(t for t in lines if key_of(t) not in keys), *new)
        return problems

    def find(self, overrides: Sequence[str]) -> int | None:
        """Return the number of the job with these overrides, None where there is none."""
        identity = identity_of(overrides)
        matching = (each for each, known in self.jobs.items() if identity_of(known) == identity)
        return next(matching, None)

    def path(self, number: int) -> Path:
        """Return the directory of a job."""
        return self.directory / str(number)

    def status(self, number: int) -> str:
        """Say how a job ended: see ``run_status``; ``new`` where it never started."""
        path = self.path(number)
        try:
            return run_status(path) if path.is_dir() else "new"
        except RunError:  # its summary cannot be read
            return "failed"

    def statuses(self) -> dict[int, str]:
        """Return how every job ended."""
        return {number: self.status(number) for number in self.jobs}

    def unfinished(self) -> list[int]:
        """Return the jobs that did not complete."""
        return [number for number, status in self.statuses().items() if status != "completed"]

    def save(self) -> None:
        """Write the plan into the sweep's directory."""
        jobs = [
            {"job": number, "overrides": list(lines)} for number, lines in sorted(self.jobs.items())
        ]
        content = {
            "command": self.command,
            "request": list(self.request),
            "added": [list(each) for each in self.added],
            "jobs": jobs,
        }
        content = masked(content)
        write_atomic(self.directory / PLAN, json_bytes({**content, _DIGEST: _digest(content)}))


def identity_of(overrides: Sequence[str]) -> Identity:
    """Return what a job is, however it is written: its keys and their values as parsed.

    A secret is the same whether it is there or masked in a record.
    """
    return tuple(sorted(_pairs(map(masked_text, overrides))))


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _pairs(overrides: Iterable[str]) -> Iterator[tuple[str, str]]:
    parser = OverridesParser.create()
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except (HydraException, ValueError):  # ValueError: more digits than Python reads
            yield text, ""
            continue
        key = override.key_or_group
        if is_of_hydra(key) or role_of(key) is Role.EARLIER:
            continue
        value = None if override.is_delete() else override.value()
        yield ("~" if override.is_delete() else "") + key, _canonical(value)


def _canonical(value: object) -> str:
    """The same text for values that a configuration holds as equals, such as 1e-2 and 0.01."""
    return json.dumps(value, sort_keys=True, default=str)


def read_plan(directory: Path, command: str) -> SweepPlan:
    """Read the plan of a sweep that is to be continued.

    A sweep that left no plan, or one that is no JSON any more, is read from its jobs' own records.

    Raises:
        RequestError: there is no sweep, or one of another command.
        RunError: it is still running, or its plan is damaged.
    """
    wanted = f"sweep.resume={directory}"
    if not directory.is_dir():
        raise RequestError(f"{wanted}: there is no such directory")
    if (directory / PLAN).is_file():
        plan = _recorded(directory)
        _agree_with_jobs(plan)
    elif (directory / _REQUEST).is_file():
        plan = _from_jobs(directory)
    else:
        kind = "holds a single run" if (directory / HYDRA).is_dir() else "holds no sweep"
        hint = ""
        if (directory.parent / PLAN).is_file():
            hint = f"; the sweep that this job belongs to is {directory.parent}"
        raise RequestError(
            f"{wanted}: {kind} (a sweep's directory has {PLAN} and numbered jobs){hint}"
        )
    if plan.command != command:
        raise RequestError(
            f"{wanted}: is a sweep of `idl {plan.command}`, this is `idl {command}`; "
            f"continue it with `idl {plan.command} -m {wanted}`"
        )
    running = [str(number) for number, status in plan.statuses().items() if status == "running"]
    if is_locked(directory) or running:
        jobs = f" (job {', '.join(running)})" if running else ""
        raise RunError(f"{directory}: this sweep is still running{jobs}; wait for it to end")
    return plan


def planned_jobs(directory: Path) -> list[Job]:
    """Return the jobs of a sweep in order of their numbers, those that never started included.

    Raises:
        RunError: the plan cannot be read.
    """
    jobs = {job.number: job for job in collect_jobs(directory)}
    plan = _from_file(directory) if (directory / PLAN).is_file() else None
    for number, overrides in ({} if plan is None else plan.jobs).items():
        found = jobs.get(number)
        if found is None:
            jobs[number] = planned_job(number, directory, overrides)
        elif not found.overrides:  # its own record of them is gone, or cannot be read
            jobs[number] = found.of_plan(overrides)
    return [jobs[number] for number in sorted(jobs)]


def _recorded(directory: Path) -> SweepPlan:
    """The plan by its file; by the jobs where that was cut short, so that none is run in vain."""
    try:
        read_json(directory / PLAN)
    except RunError as error:
        if not (directory / _REQUEST).is_file():
            raise
        plan = _from_jobs(directory)
        plan.damage = (
            f"{error}; the sweep goes on by {_REQUEST} and its jobs' own records, which know "
            "nothing of jobs that were added later and never started"
        )
        return plan
    return _from_file(directory)


def _from_file(directory: Path) -> SweepPlan:
    content: dict[str, Any] = read_json(directory / PLAN)
    digest = content.pop(_DIGEST, None)  # plans of earlier versions have none
    if not content.keys() <= _PARTS or digest not in (None, _digest(content)):
        raise RunError(
            f"{directory / PLAN}: damaged, or edited: its content does not match its checksum; if "
            f"you have corrected it by hand, take the line {_DIGEST} out of it"
        )
    try:
        jobs = {int(job["job"]): tuple(map(str, job["overrides"])) for job in content["jobs"]}
        request = tuple(map(str, content["request"]))
        added = [tuple(map(str, each)) for each in content.get("added", ())]
        if len(jobs) < len(content["jobs"]):
            raise ValueError("two jobs of one number")
        return SweepPlan(directory, str(content["command"]), request, jobs, added)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{directory / PLAN}: is not the plan of a sweep ({error!r}); without it, the jobs'"
            " own records say what they are"
        ) from error


def _agree_with_jobs(plan: SweepPlan) -> None:
    """Hold the plan against what the jobs say they ran, so that no result passes for another's.

    Jobs that the plan lacks are taken up in it.
    """
    for job in collect_jobs(plan.directory):
        path = job.record.path
        found = read_overrides(path) if job.overrides else []
        if not found:
            continue
        planned = plan.jobs.setdefault(job.number, tuple(found))
        if _without_setting(planned) != _without_setting(found):
            raise RunError(
                f"{plan.directory / PLAN}: job {job.number} is {' '.join(planned)}, but what lies "
                f"in {path} ran {' '.join(found)}; correct {PLAN}, or delete {path} to "
                "have the job run again"
            )


def _without_setting(overrides: Iterable[str]) -> Identity:
    """What a job is, wherever it ran and whatever was written down of it."""
    return identity_of([text for text in overrides if not role_of(key_of(text)).keeps_the_job])


def _from_jobs(directory: Path) -> SweepPlan:
    file = directory / _REQUEST
    try:
        config = load_config(file)
        command = OmegaConf.select(config, "hydra.job.name")
        typed = [str(each) for each in OmegaConf.select(config, "hydra.overrides.task") or ()]
    except (OmegaConfBaseException, TypeError) as error:
        raise RunError(f"{file}: cannot be read ({error})") from error
    jobs = {
        job.number: tuple(f"{key}={value}" for key, value in job.overrides.items())
        for job in collect_jobs(directory)
    }
    return SweepPlan(directory, str(command), tuple(typed), jobs)
