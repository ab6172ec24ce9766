"""``run.log``: what a run says, without secrets, and without an end to the run where it fails."""

from __future__ import annotations

import logging
import sys

from idl_cli.masking import masked_text


class MaskingFormatter(logging.Formatter):
    """Lines and tracebacks without passwords and tokens."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return masked_text(super().format(record))


class LogFile(logging.FileHandler):
    """A log file that falls silent on a full disk: what is lost there is on the terminal."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Print the traceback of errors that are none of the disk's."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)
