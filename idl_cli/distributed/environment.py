"""Environment variables: what a launcher tells a process about its place, and setting them.

torchrun sets those of the place, and so do we: a process that either started joins alike.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from idl_cli.errors import RequestError

_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Launched:
    """A process's place among those that a launcher started.

    Attributes:
        rank: this process's number, from 0.
        size: number of processes.
        local_rank: this process's number on its machine.
        local_size: number of processes on its machine.
        address: host where the ranks find each other.
        port: TCP port there.
        agent_store: whether the launcher listens there, rather than rank 0.
        run_id: the same text on all ranks, another one for every launch.
        attempt: how many times the launcher has started the ranks anew.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    address: str
    port: int
    agent_store: bool = False
    run_id: str = ""
    attempt: int = 0

    @property
    def listens(self) -> bool:
        """Whether this process keeps the store in which the ranks meet."""
        return self.rank == 0 and not self.agent_store

    def variables(self) -> dict[str, str]:
        """The environment variables that say the same."""
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.size),
            "LOCAL_RANK": str(self.local_rank),
            "LOCAL_WORLD_SIZE": str(self.local_size),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
            "TORCHELASTIC_USE_AGENT_STORE": str(self.agent_store),
            "TORCHELASTIC_RUN_ID": self.run_id,
            "TORCHELASTIC_RESTART_COUNT": str(self.attempt),
        }


def launched(environment: Mapping[str, str] | None = None) -> Launched | None:
    """Read this process's place; None if no launcher started it.

    Args:
        environment: the variables; None for those of the process.

    Raises:
        RequestError: some variables are set and others missing, or one is no number in its range.
    """
    variables = os.environ if environment is None else environment
    # MASTER_* and LOCAL_* alone mean nothing: shells and job scripts export them in advance.
    if "RANK" not in variables and "WORLD_SIZE" not in variables:
        return None
    missing = [name for name in _NEEDED if not variables.get(name)]
    if missing:
        present = [name for name in _NEEDED if variables.get(name)]
        raise RequestError(
            f"{', '.join(present)} set in the environment, but not {', '.join(missing)}: torchrun "
            "sets them all; start the processes with it, or unset them to run as one process"
        )
    size = _number(variables, "WORLD_SIZE", 1, 2**31)
    rank = _number(variables, "RANK", 0, size - 1)
    local_size = _number(variables, "LOCAL_WORLD_SIZE", 1, size, default=1)
    return Launched(
        rank=rank,
        size=size,
        local_rank=_number(variables, "LOCAL_RANK", 0, size - 1, default=0),
        local_size=local_size,
        address=variables["MASTER_ADDR"],
        port=_number(variables, "MASTER_PORT", 1, 65535),
        agent_store=variables.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        run_id=variables.get("TORCHELASTIC_RUN_ID", ""),
        attempt=_number(variables, "TORCHELASTIC_RESTART_COUNT", 0, 2**31, default=0),
    )


def _number(
    variables: Mapping[str, str], name: str, low: int, high: int, default: int | None = None
) -> int:
    text = variables.get(name)
    if not text and default is not None:
        return default
    assert text is not None
    if not text.isdecimal() or not low <= int(text) <= high:
        raise RequestError(
            f"{name}={text} in the environment: must be a whole number from {low} to {high}; "
            "torchrun sets it"
        )
    return int(text)


@contextmanager
def environment_variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and put back what there was before.

    Args:
        values: by name.
    """
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
