"""Which recorded overrides of a sweep may be run again: a record is data, not a command line.

Whoever continues a sweep that somebody else has sent must not run that person's programs or write
outside of the sweep. Values that say such things count only where they are typed anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from idl_cli.masking import MASK
from idl_cli.requests.overrides import is_of_hydra, key_of

_OVERRIDE: Final = re.compile(r"(\+{0,2}[A-Za-z_][\w./-]*=.*|~[A-Za-z_][\w./-]*(=.*)?)", re.DOTALL)
"""``KEY=VALUE`` or ``~KEY``: no flag, and nothing put elsewhere by ``GROUP@PACKAGE``."""

_OF_SWEEPS: Final = re.compile(
    r"hydra/(launcher|sweeper|sweeper/sampler)"
    r"|hydra\.(mode|verbose|sweep\.dir)"  # the directory is the one that is continued
    r"|hydra\.launcher\.(n_jobs|verbose|timeout|pre_dispatch|batch_size|timeout_min|cpus_per_task"
    r"|gpus_per_(node|task)|tasks_per_node|mem_(gb|per_gpu|per_cpu)|nodes|name|partition|qos"
    r"|account|constraint|exclude|max_num_timeout|array_parallelism|signal_delay_s)"
    r"|hydra\.sweeper\.(n_trials|n_jobs|direction|study_name|max_failure_rate|max_batch_size"
    r"|storage|sampler\.(?!_)\w+|params\.(?!hydra)[\w./-]+|params)"
)
"""Keys of Hydra's that only say how many jobs run, on what, and which come next."""

_STORAGE: Final = "hydra.sweeper.storage"
_SQLITE: Final = "sqlite:///"


def refusals(
    directory: Path, request: Iterable[str], jobs: Iterable[Iterable[str]], given: frozenset[str]
) -> Iterator[str]:
    """Say what of a sweep's record is not run again.

    Args:
        directory: of the sweep.
        request: what the sweep was asked for.
        jobs: the overrides of every job.
        given: keys that are typed now, so that the record's are not used.

    Yields:
        A sentence for each.
    """
    for text in dict.fromkeys(request):
        if key_of(text) in given:
            continue
        if not _is_plain(text) or (is_of_hydra(text) and not _may_run_again(text, directory)):
            yield (
                f"{text}: in the record of {directory}, and run only where you ask for it: type it "
                "beside sweep.resume where you want it, or take it out of the record"
            )
        elif MASK in text:
            yield (
                f"{text}: the record of {directory} keeps no passwords and tokens; give "
                f"{key_of(text)}=VALUE again beside sweep.resume"
            )
    for text in dict.fromkeys(line for lines in jobs for line in lines):
        key = key_of(text)
        if not _is_plain(text) or key.partition(".")[0].partition("/")[0] == "hydra":
            yield f"{text}: in the record of {directory} as part of a job, which has no such keys"
        elif MASK in text and key not in given:
            yield (
                f"{text}: the record of {directory} keeps no passwords and tokens; give "
                f"{key}=VALUE again beside sweep.resume"
            )


def jobs_outside(directory: Path, numbers: Iterable[int]) -> Iterator[str]:
    """Say which jobs' directories lie outside of their sweep's."""
    for number in numbers:
        path = directory / str(number)
        if number < 0 or path.is_symlink():
            yield f"{path}: leads out of the sweep's directory; nothing is written there"


def _is_plain(text: str) -> bool:
    return _OVERRIDE.fullmatch(text) is not None and "_target_" not in text


def _may_run_again(text: str, directory: Path) -> bool:
    key, value = key_of(text), text.partition("=")[2].strip("'\"")
    if _OF_SWEEPS.fullmatch(key) is None:
        return False
    if key == "hydra.sweeper.params":
        return "hydra" not in value
    if key == _STORAGE and value.startswith(_SQLITE):
        file = Path(value.removeprefix(_SQLITE)).resolve()
        return file.is_relative_to(directory.resolve())
    return key != _STORAGE or MASK in value or value in ("null", "")
