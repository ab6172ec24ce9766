"""Whether the ranks that a launcher started were all asked for the same, before they begin.

Ranks that work on different requests wait for each other for ever, or put together what does not
belong together: on several machines each is given its own command line. Keys that are a machine's
own may differ; the data themselves are compared once they are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from idl_cli.requests.key_roles import differences


@dataclass(frozen=True)
class RankRequest:
    """What one rank was asked for; plain values, since the others are told.

    Attributes:
        command: name of the command.
        version: of idl.
        settings: checked; None where they hold mistakes.
        problems: these mistakes.
    """

    command: str
    version: str
    settings: Mapping[str, Any] | None
    problems: Sequence[str] = ()


def problems_of(requests: Sequence[RankRequest]) -> list[str]:
    """What is wrong with the requests of all ranks, each mistake once; empty where nothing is.

    Args:
        requests: in the order of ranks.
    """
    first = requests[0]
    if any(request.problems for request in requests):
        others = (
            f"rank {rank}: {problem}"
            for rank, request in enumerate(requests)
            for problem in request.problems
            if problem not in first.problems
        )
        return [*first.problems, *others]
    found: dict[str, None] = {}
    for rank, request in enumerate(requests):
        found.update(dict.fromkeys(_differences(first, request, rank)))
    return list(found)


def _differences(first: RankRequest, other: RankRequest, rank: int) -> Iterator[str]:
    if (other.command, other.version) != (first.command, first.version):
        yield (
            f"rank {rank} runs `idl {other.command}` of version {other.version}, rank 0 "
            f"`idl {first.command}` of version {first.version}; start the same on every machine"
        )
        return
    for key, own, theirs in differences(
        first.settings, other.settings, lambda role: role.may_differ_between_ranks
    ):
        yield (
            f"{key}={theirs}: on rank {rank}, while rank 0 has {key}={own}; start every rank with "
            "the same arguments"
        )
