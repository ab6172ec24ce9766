"""Ranks that no launcher of ours watches over: they find out among themselves why a job ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any, Final

from idl_cli.distributed.failure import RankReport, killed, report_of, root_cause
from idl_cli.distributed.process import Interrupted, ignore_sigterm
from idl_cli.distributed.store import MeetingPlace, Unheard, speaker
from idl_cli.errors import ConfigError, RankError, RankExit

_WAIT: Final = 5.0
"""Seconds to wait for the other ranks' words. A rank that lost contact says so at once; torchrun
kills those that are still there 30 s after the first failure."""


@contextmanager
def failing_together(
    meeting: MeetingPlace, on_cause: Callable[[RankReport], None]
) -> Iterator[None]:
    """Have every rank know why the job ended, and one of them say so.

    An error inside the context is this rank's word; the words of all ranks give the cause. Rank 0
    raises it, or the first rank that is left where rank 0 is not; the others raise ``RankExit``.

    Args:
        meeting: of the ranks.
        on_cause: called with the cause of a failure, on the rank that raises it.

    Raises:
        RankError: a rank failed; the sentence names it and its cause.
        ConfigError: the ranks refused the request.
        KeyboardInterrupt: all ranks were interrupted.
        RankExit: another rank raises one of these.
    """
    try:
        yield
    except BaseException as error:
        ignore_sigterm()
        reports, speaks = exchange_reports(meeting, report_of(meeting.place.rank, error))
        cause = root_cause(reports)
        assert cause is not None
        if not speaks:
            raise RankExit(cause.exit_status) from error
        if cause.kind == "interrupted":
            raise Interrupted(cause.exit_status - 128) from error
        on_cause(cause)
        if cause.exit_status == ConfigError.exit_status:
            raise ConfigError(_with_rank(cause, reports[0])) from error
        raise RankError(cause.sentence, logged=bool(cause.traceback)) from error
    with suppress(RuntimeError):  # rank 0, which kept the store, was faster to leave
        meeting.tell_end(asdict(RankReport(meeting.place.rank, "completed")), failed=False)


def _with_rank(cause: RankReport, first: RankReport) -> Sequence[str]:
    """What is wrong with a request; on which rank, where rank 0 does not find the same."""
    if cause.problems == first.problems:
        return cause.problems
    return [f"rank {cause.rank}: {problem}" for problem in cause.problems]


@contextmanager
def telling_other_ranks(meeting: MeetingPlace) -> Iterator[None]:
    """Let the other ranks know of an error before or after what the ranks do together.

    The error is passed on. Without a word the others would wait for this rank to join.
    """
    try:
        yield
    except BaseException as error:
        ignore_sigterm()
        with suppress(RuntimeError):  # rank 0, which kept the store, is no more
            if not meeting.has_told_end():
                exchange_reports(meeting, report_of(meeting.place.rank, error))
        raise


def exchange_reports(meeting: MeetingPlace, own: RankReport) -> tuple[list[RankReport], bool]:
    """Tell how this rank ended and hear it of all others.

    Args:
        meeting: of the ranks.
        own: how this rank ended.

    Returns:
        The reports of all ranks, and whether this one speaks for them.
    """
    words: list[Any] = [Unheard(rank) for rank in range(meeting.place.size)]
    try:
        meeting.tell_end(asdict(own), failed=True)
        words = meeting.hear_ends(_WAIT)
    except RuntimeError:  # rank 0 kept the store, and is no more
        words[own.rank] = asdict(own)
    reports = [
        killed(word.rank, None)
        if isinstance(word, Unheard)
        else RankReport(**{**word, "problems": tuple(word["problems"])})
        for word in words
    ]
    return reports, speaker(words) == own.rank
