"""A job that failed: its cause in one line, and the memory that it leaves to the next one."""

from __future__ import annotations

import gc
import traceback

from idl_cli.errors import ConfigError, IdlError, unforeseen


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
