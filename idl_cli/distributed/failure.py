"""How each rank ended, and which of them is to blame.

When one rank fails, the others fail too a moment later: their messages no longer arrive. The cause
is the rank that failed for a reason of its own.
"""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch.distributed as dist

from idl_cli.errors import IdlError, PeerLostError, memory_refusal, unforeseen

Kind = Literal["completed", "failed", "killed", "lost", "interrupted"]

_CONNECTION_WORDS = ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL")


@dataclass(frozen=True)
class RankReport:
    """How one rank ended.

    Attributes:
        rank: which.
        kind: ``lost``: it could no longer reach another rank; ``killed``: it could not say why.
        problems: what went wrong, one sentence a mistake.
        exit_status: what it exits with.
        traceback: of an error that idl did not foresee, else empty.
        time: when, in seconds since the epoch.
    """

    rank: int
    kind: Kind
    problems: tuple[str, ...] = ()
    exit_status: int = 1
    traceback: str = ""
    time: float = field(default_factory=time.time)

    @property
    def sentence(self) -> str:
        """The rank and its cause."""
        verb = {"killed": "", "lost": "lost contact: "}.get(self.kind, "failed: ")
        return f"rank {self.rank} {verb}{'; '.join(self.problems)}"


def report_of(rank: int, error: BaseException) -> RankReport:
    """Say how a rank ended that ``error`` came out of."""
    if isinstance(error, KeyboardInterrupt):
        status = 128 + int(getattr(error, "signal", signal.SIGINT))
        return RankReport(rank, "interrupted", exit_status=status)
    if has_lost_contact(error):
        return RankReport(rank, "lost", (_first_line(error),))
    if isinstance(error, IdlError):
        problems = tuple(getattr(error, "problems", ())) or (str(error),)
        return RankReport(rank, "failed", problems, error.exit_status)
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return RankReport(rank, "failed", (unforeseen(error),), traceback=trace)


def killed(rank: int, exit_code: int | None) -> RankReport:
    """Report a rank that ended without a word.

    Args:
        rank: which.
        exit_code: of its process, negative for a signal; None where nobody knows.
    """
    if exit_code is None:
        problem = "ended or hangs, and could not say why"
    elif exit_code == -signal.SIGKILL:
        problem = "was killed by SIGKILL; the system does that when memory runs out"
    elif exit_code < 0:
        problem = f"was killed by {signal.Signals(-exit_code).name}"
    else:
        problem = f"ended with status {exit_code}, and did not say why"
    return RankReport(rank, "killed", (problem,))


def root_cause(reports: Sequence[RankReport]) -> RankReport | None:
    """The report that explains the others; None if every rank completed its work."""
    for kinds in (("failed", "killed"), ("interrupted",), ("lost",)):
        found = [report for report in reports if report.kind in kinds]
        if found:
            return min(found, key=lambda report: report.time)
    return None


def has_lost_contact(error: BaseException) -> bool:
    """Whether an error says no more than that another rank no longer answers."""
    if isinstance(error, PeerLostError):
        return True
    if memory_refusal(error) is not None:  # NCCL runs out of memory too
        return False
    if isinstance(error, dist.DistError):
        return True
    # gloo raises plain RuntimeErrors.
    text = str(error)
    return type(error) is RuntimeError and any(word in text for word in _CONNECTION_WORDS)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]
