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

from idl_cli.config.fields import Role
from idl_cli.errors import RunError
from idl_cli.masking import MASK, masked, masked_text
from idl_cli.requests.key_roles import role_of
from idl_cli.requests.output_directory import PLAN
from idl_cli.requests.overrides import is_of_hydra, key_of, only_drops
from idl_cli.run import run_status
from idl_cli.run.files import json_bytes, write_atomic

DIGEST: Final = "sha256"

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
        write_atomic(self.directory / PLAN, json_bytes({**content, DIGEST: digest_of(content)}))


def identity_of(overrides: Sequence[str]) -> Identity:
    """Return what a job is, however it is written: its keys and their values as parsed.

    A secret is the same whether it is there or masked in a record.
    """
    return tuple(sorted(_pairs(map(masked_text, overrides))))


def digest_of(content: Mapping[str, Any]) -> str:
    """The checksum of a plan's content, hexadecimal."""
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
