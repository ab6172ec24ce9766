"""The end of a rank's process."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from typing import NoReturn


def leave(status: int) -> NoReturn:
    """End this process as the interpreter would, but for the destructors of libraries.

    Some threads of gloo's groups are still there when DistributedDataParallel was used, and now and
    then (two of fifty processes) abort one whose work is done: torchrun then calls the job failed.

    Args:
        status: to exit with.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed, or its reader has gone
            stream.flush()
    os._exit(status)
