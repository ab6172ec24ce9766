"""A sweep's plan read back: from its file, or from its jobs' records where that is damaged."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from idl_cli.errors import RequestError, RunError
from idl_cli.requests.config_files import load_config
from idl_cli.requests.key_roles import role_of
from idl_cli.requests.output_directory import PLAN
from idl_cli.requests.overrides import key_of
from idl_cli.run import read_overrides
from idl_cli.run.files import read_json
from idl_cli.run.lock import is_locked
from idl_cli.run.records import HYDRA
from idl_cli.sweeps.jobs import Job, collect_jobs, planned_job
from idl_cli.sweeps.sweep_plan import DIGEST, Identity, SweepPlan, digest_of, identity_of

_REQUEST: Final = "multirun.yaml"
_PARTS: Final = frozenset({"command", "request", "added", "jobs"})


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
    digest = content.pop(DIGEST, None)  # plans of earlier versions have none
    if not content.keys() <= _PARTS or digest not in (None, digest_of(content)):
        raise RunError(
            f"{directory / PLAN}: damaged, or edited: its content does not match its checksum; if "
            f"you have corrected it by hand, take the line {DIGEST} out of it"
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
