"""How a job ended, written down: its cause in one line, and the memory left to the next one."""

from __future__ import annotations

import gc
import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from idl_cli.distributed.process import interruptible
from idl_cli.errors import ConfigError, IdlError, RunError, unforeseen

if TYPE_CHECKING:
    from idl_cli.reporting import Reporter
    from idl_cli.run import RunDirectory

_LOG = logging.getLogger(__name__)
_QUEUED: Final = "SUBMITIT_EXECUTOR"
"""Set where submitit runs the job; it ends the process with SystemExit to queue the job again."""


class JobError(IdlError):
    """A job failed: in a sweep for any reason, else for one that idl did not foresee.

    Args:
        message: what went wrong.
        directory: the job's run directory.
    """

    def __init__(self, message: str, directory: str) -> None:
        super().__init__(message, directory)  # both are arguments, so that launchers can pickle it
        self.message = message
        self.directory = Path(directory)

    def __str__(self) -> str:
        return self.message


@contextmanager
def recorded(
    directory: RunDirectory, console: Reporter, number: int | None = None
) -> Iterator[None]:
    """Write down how the job ended, whichever way it does, and pass the error on.

    Args:
        directory: of the run.
        console: told of a failure that is one of several.
        number: of the job in its sweep; None of a run.

    Raises:
        JobError: it failed, in a sweep for any reason, else for one that idl did not foresee.
        IdlError: it failed.
        KeyboardInterrupt: SIGINT or SIGTERM came.
    """
    with interruptible() as unwinding:
        try:
            yield
        except KeyboardInterrupt:
            _record_interruption(directory)
            raise
        except (Exception, SystemExit) as error:
            if unwinding.raised is not None:
                _record_interruption(directory)
                raise unwinding.raised from error
            if isinstance(error, SystemExit) and _QUEUED in os.environ:
                _LOG.warning("put back into the queue")  # the job goes on where it was
                raise
            _record_failure(error, directory, console, number)
        finally:
            if number is not None:  # of a run alone, the process ends
                free_memory()


def _record_interruption(directory: RunDirectory) -> None:
    _LOG.warning("interrupted")
    _finish(directory, "interrupted", None)


def _record_failure(
    error: BaseException, directory: RunDirectory, console: Reporter, number: int | None
) -> NoReturn:
    """Write down why a job failed, tell it where it is one of several, and raise it again."""
    if not isinstance(error, IdlError):
        directory.refuse_removed()
    foreseen = isinstance(error, IdlError)
    sentence = one_line(error)
    _finish(directory, "failed", sentence)
    if foreseen:
        _LOG.error("%s", error)
    else:
        _LOG.error("%s", sentence, exc_info=error)
    logged = not foreseen or getattr(error, "logged", False)
    if logged:
        sentence += f"\nThe traceback is in {directory.path / 'run.log'}"
    if number is not None:
        console.error(f"job {number} failed: {sentence}")
        release(error)
    elif not logged:
        raise error
    raise JobError(sentence, str(directory.path)) from error


def _finish(directory: RunDirectory, status: Any, error: str | None) -> None:
    """Write the summary unless the command, which knows more, already did."""
    try:
        directory.refuse_removed()
    except RunError:
        return
    if not is_finished(directory):
        directory.finish(status, {}, error)


def is_finished(directory: RunDirectory) -> bool:
    """Whether the command, which knows most, has written the summary itself."""
    return (directory.path / "summary.json").exists()


def one_line(error: BaseException) -> str:
    """Say in one line why a job failed, and what to do where that is known."""
    if isinstance(error, ConfigError):
        return "; ".join(error.problems)
    if isinstance(error, IdlError):
        return str(error)
    return unforeseen(error)


def release(error: BaseException) -> None:
    """Drop what the frames of an error hold: a sweep keeps the error, not the job's tensors."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link.__traceback__ = None
        link = link.__cause__ or link.__context__


def free_memory() -> None:
    """Give back what a job left behind, so that the next one in this process finds it free."""
    import torch

    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
