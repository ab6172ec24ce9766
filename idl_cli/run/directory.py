"""What a run leaves behind, and the one class that writes it.

    summary.json                    the result; absent while the run lives and when it was killed
    metrics.jsonl                   one JSON object a line, in the order of events
    checkpoints/{last,best}         .safetensors: all that a bit-exact resume needs; .json: its tale
    model.safetensors, model.json   the trained model alone
    data.json                       figures by which other data are noticed when it is resumed
    environment.json                versions, git revision, device, threads
    *.png                           figures
    report.html                     all of it on one page

Every file is replaced in one step, except ``metrics.jsonl``, which grows line by line and is cut
back to the checkpoint's length when a run is resumed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Concatenate, Literal, ParamSpec

from torch import Tensor, nn

from idl_cli.errors import RunError
from idl_cli.masking import masked
from idl_cli.run.files import (
    append,
    csv_bytes,
    flush_to_disk,
    json_bytes,
    json_line,
    write_atomic,
    write_figure,
)
from idl_cli.run.lock import RunLock
from idl_cli.run.metrics_file import read_metrics, too_few_rows
from idl_cli.run.model_file import write_model
from idl_cli.run.records import CHECKPOINTS, METRICS, SUMMARY, Status
from idl_cli.run.state import read_state, write_state, write_tensors
from idl_cli.run.takeover import take_over

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from idl_cli.data.preprocessing import Preprocessing
    from idl_cli.data.task import Task

Which = Literal["last", "best"]

LOG = "run.log"

_Arguments = ParamSpec("_Arguments")


def _left_to_the_writer(
    write: Callable[Concatenate[RunDirectory, _Arguments], None],
) -> Callable[Concatenate[RunDirectory, _Arguments], None]:
    """Have a method do nothing in a directory that this process only looks at."""

    @wraps(write)
    def _written(
        self: RunDirectory, /, *arguments: _Arguments.args, **named: _Arguments.kwargs
    ) -> None:
        if self.writes:
            write(self, *arguments, **named)

    return _written


class RunDirectory:
    """The directory of one run, held under a lock while it is written.

    Use as a context manager, or call ``close``: either gives the lock back.

    Args:
        path: the directory; made if absent. What others put there (``.hydra/``, the log) stays.
        command: the sub-command that runs, e.g. ``train``.
        seed: the run's seed, or None where nothing is random.
        resume: continue the run found there. Otherwise a directory that already holds one is
            refused: two runs in one directory would be told apart by nobody.

    Raises:
        RunError: the directory is in use, or holds a run and ``resume`` is False.

    Attributes:
        writes: whether this process writes the files; of several ranks only the first does.
    """

    writes: ClassVar[bool] = True

    def __init__(
        self, path: Path | str, *, command: str, seed: int | None = None, resume: bool = False
    ) -> None:
        self.path = Path(path)
        self.command = command
        self.seed = seed
        self._started = time.monotonic()
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock: RunLock | None = RunLock(self.path)
        try:
            self._metrics_rows = take_over(self.path, command, resume)
        except BaseException:
            self.close()
            raise

    def refuse_removed(self) -> None:
        """Write nothing to a directory that is gone: it would be half a run in its place.

        Raises:
            RunError: the directory was removed while the run went on.
        """
        if not self.path.is_dir() or (self._lock is not None and self._lock.was_removed()):
            raise RunError(
                f"{self.path}: was removed while the run went on, and its results with it; "
                "start the run again"
            )

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._lock is not None:
            self._lock.release()

    @property
    def seconds(self) -> float:
        """Wall-clock seconds since this process took the directory."""
        return time.monotonic() - self._started

    def _file(self, name: str) -> Path:
        self.refuse_removed()
        return self.path / name

    # -- metrics -------------------------------------------------------------------------------

    @property
    def metrics_rows(self) -> int:
        """Number of rows in ``metrics.jsonl``."""
        return self._metrics_rows

    def append_metrics(self, row: Mapping[str, object]) -> None:
        """Add a row to ``metrics.jsonl``; a reader, or a crash, finds it there on return."""
        append(self._file(METRICS), json_line(row))
        self._metrics_rows += 1

    def truncate_metrics(self, rows: int) -> None:
        """Keep the first rows alone: those written before the checkpoint that is resumed.

        Raises:
            RunError: there are fewer rows than that.
        """
        if rows == self._metrics_rows == 0:
            return
        found = read_metrics(self.path)
        if len(found) < rows:
            raise RunError(too_few_rows(self.path, len(found), rows))
        self.replace_metrics(found[:rows])

    def replace_metrics(self, rows: list[dict[str, object]]) -> None:
        """Write ``metrics.jsonl`` anew, e.g. with the rows of the run that this one continues."""
        write_atomic(self._file(METRICS), b"".join(json_line(row) for row in rows))
        self._metrics_rows = len(rows)

    # -- checkpoints ---------------------------------------------------------------------------

    def checkpoint_path(self, which: Which) -> Path:
        """Return the safetensors file of a checkpoint, which may not exist."""
        return self.path / CHECKPOINTS / f"{which}.safetensors"

    @_left_to_the_writer
    def save_checkpoint(
        self, which: Which, state: object, description: Mapping[str, object]
    ) -> None:
        """Write a checkpoint: a nested state of tensors, arrays and plain values.

        The safetensors file is complete in itself. The JSON beside it is for people: it repeats
        the checksum of the tensors it speaks of.

        Args:
            which: ``last`` or ``best``.
            state: what ``load_checkpoint`` gives back, to the bit.
            description: epoch, step and the like, for the JSON file.
        """
        if (self.path / METRICS).exists():
            flush_to_disk(self.path / METRICS)  # a checkpoint counts on the rows before it
        self.refuse_removed()
        path = self.checkpoint_path(which)
        digest = write_state(path, state)
        write_atomic(path.with_suffix(".json"), json_bytes({**description, "sha256": digest}))

    def load_checkpoint(self, which: Which) -> object:
        """Read a checkpoint's state.

        Raises:
            RunError: it is missing, damaged, or was not written by idl; the message names it.
        """
        return read_state(self.checkpoint_path(which))

    @_left_to_the_writer
    def adopt(self, other: Path) -> None:
        """Copy another run's checkpoints and metrics here, to continue it in this directory."""
        self._file(CHECKPOINTS).mkdir(exist_ok=True)
        for source in sorted((other / CHECKPOINTS).glob("*.*")):
            write_atomic(self.path / CHECKPOINTS / source.name, source.read_bytes())
        if (other / METRICS).exists():
            self.replace_metrics(read_metrics(other))

    # -- the model, figures, other files ---------------------------------------------------------

    @_left_to_the_writer
    def save_model(
        self,
        model: nn.Module,
        *,
        preprocessing: Preprocessing | None,
        task: Task | None,
        name: str = "implicit",
        group: str = "model",
        arguments: Mapping[str, object] | None = None,
    ) -> None:
        """Write the trained model: all that ``load_model`` needs, and nothing else.

        Args:
            model: the model.
            preprocessing: raw samples to the model's inputs; None where there is none.
            task: what the model predicts; None where that is unknown.
            name: the model's option in the config group.
            group: the config group that makes it: ``model``, or ``teacher`` for explicit networks.
            arguments: plain values that make it again; by default what the model's
                ``constructor_arguments()`` returns.
        """
        self.refuse_removed()
        if arguments is None:
            arguments = model.constructor_arguments()  # type: ignore[operator]
        write_model(
            self.path, model, preprocessing, task, name=name, group=group, arguments=arguments
        )

    @_left_to_the_writer
    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file; NaN and infinities become null."""
        write_atomic(self._file(name), json_bytes(value))

    @_left_to_the_writer
    def write_text(self, name: str, text: str) -> None:
        """Write a text file in UTF-8."""
        write_atomic(self._file(name), text.encode())

    @_left_to_the_writer
    def write_table(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Write a CSV file: a header and a line a row."""
        write_atomic(self._file(name), csv_bytes(rows))

    @_left_to_the_writer
    def write_tensors(
        self, name: str, tensors: Mapping[str, Tensor], metadata: object = None
    ) -> None:
        """Write a safetensors file, readable by ``run.state.read_tensors``."""
        write_tensors(self._file(name), tensors, metadata)

    @_left_to_the_writer
    def save_figure(self, name: str, figure: Figure) -> None:
        """Write a figure as PNG."""
        write_figure(self._file(name), figure)

    @_left_to_the_writer
    def finish(
        self,
        status: Status,
        metrics: Mapping[str, object],
        error: str | None = None,
        sections: Mapping[str, object] | None = None,
    ) -> None:
        """Write ``summary.json``: from now on the run counts as ended.

        Args:
            status: how it ended.
            metrics: the command's figures.
            error: one sentence, when it failed.
            sections: further top-level entries, e.g. ``{"sim": {…}}``.
        """
        summary: dict[str, object] = {
            "command": self.command,
            "status": status,
            "seed": self.seed,
            "seconds": round(self.seconds, 3),
            "metrics": dict(metrics),
        }
        if error is not None:
            summary["error"] = error
        self.write_json(SUMMARY, masked({**summary, **(sections or {})}))
