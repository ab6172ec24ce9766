"""Starting the ranks of one machine, watching over them, and ending them together.

The processes are started by ``torch.multiprocessing.start_processes``, the layer beneath torchrun's
agents. The agents themselves (``torch.distributed.elastic``) replace the signal handlers of their
process for good and wait for machines that come and go; here a parent that runs many jobs starts
a fixed number of ranks for one of them, and is to end all of them in seconds.

This process listens for the ranks on a port that the system chooses, so that none can be in use.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Final, NoReturn

from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.multiprocessing.spawn import start_processes

from idl_cli.distributed.environment import Launched, environment_variables
from idl_cli.distributed.failure import RankReport, killed, report_of, root_cause
from idl_cli.distributed.process import Interrupted, exit_without_destructors

_SETTLING: Final = 3.0  # seconds the others get to fail by themselves after the first failure
_FAILURE_GRACE: Final = 5.0  # seconds from SIGTERM to SIGKILL after a failure
_INTERRUPT_GRACE: Final = 20.0  # the same after Ctrl-C: time to save a checkpoint
_LOCAL: Final = "127.0.0.1"

Work = Callable[[Any], Any]
"""What a rank does: a function of an importable module, of one picklable argument."""


@dataclass(frozen=True)
class Outcome:
    """What became of a launch.

    Attributes:
        result: rank 0's, None if the work failed.
        cause: the report of the rank to blame, None if all completed.
    """

    result: Any
    cause: RankReport | None


@dataclass(frozen=True)
class _Start:
    """What one rank is started with."""

    work: Work
    arguments: Sequence[Any]
    place: Launched
    reports: Sequence[Connection]


def launch(work: Work, arguments: Sequence[Any], *, threads: int) -> Outcome:
    """Run ``work`` on one process an argument and wait for all of them.

    The function finds its place with ``environment.launched()`` and joins with ``join.joined()``.
    However the launch ends, no process is left behind: a rank that does not follow SIGTERM is
    killed, and one whose parent dies ends itself.

    Args:
        work: called as ``work(arguments[rank])``.
        arguments: one a rank.
        threads: of each rank on the CPU.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came; all ranks have ended.
    """
    size = len(arguments)
    listener = TCPStore(_LOCAL, 0, None, True, wait_for_workers=False)
    place = Launched(
        rank=0,
        size=size,
        local_rank=0,
        local_size=size,
        address=_LOCAL,
        port=listener.port,
        agent_store=True,
        run_id=uuid.uuid4().hex,
    )
    pipes = [multiprocessing.Pipe(duplex=False) for _ in range(size)]
    start = _Start(work, arguments, place, [sending for _, sending in pipes])
    processes: Sequence[BaseProcess] = ()
    try:
        with _signals_held_back(), environment_variables(_inherited(threads)):
            processes = _start_processes(start)
        for _, sending in pipes:
            sending.close()  # so that a rank's death closes its pipe
        return _supervise(processes, [receiving for receiving, _ in pipes])
    except KeyboardInterrupt:
        _end(processes, _INTERRUPT_GRACE)
        raise
    finally:
        _end(processes, 0.0)
        for pipe in pipes:
            for connection in pipe:
                connection.close()


# -- in the parent ---------------------------------------------------------------------------------


def _start_processes(start: _Start) -> Sequence[BaseProcess]:
    with _start_method_known_to_ranks():
        context = start_processes(  # type: ignore[no-untyped-call]
            _enter, (start,), nprocs=start.place.size, join=False, start_method="spawn"
        )
    processes: Sequence[BaseProcess] = context.processes
    return processes


@contextmanager
def _start_method_known_to_ranks() -> Iterator[None]:
    """Set another library's start method aside: a new process takes on that of its parent.

    In a worker of joblib it is ``loky``, which no process knows that has not imported joblib.
    """
    before = multiprocessing.get_start_method(allow_none=True)
    if before is None or before in multiprocessing.get_all_start_methods():
        yield
        return
    multiprocessing.set_start_method("spawn", force=True)
    try:
        yield
    finally:
        multiprocessing.set_start_method(before, force=True)


def _supervise(processes: Sequence[BaseProcess], pipes: Sequence[Connection]) -> Outcome:
    """Wait until every rank has ended; after the first failure, end the rest."""
    reports: dict[int, RankReport] = {}
    results: dict[int, Any] = {}
    deadline: float | None = None
    while len(reports) < len(processes):
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            break
        waiting = [rank for rank in range(len(processes)) if rank not in reports]
        sources = [source for r in waiting for source in (pipes[r], processes[r].sentinel)]
        wait(sources, left)
        for rank in waiting:
            heard = _hear(rank, processes[rank], pipes[rank])
            if heard is not None:
                reports[rank], results[rank] = heard
                if reports[rank].kind != "completed" and deadline is None:
                    deadline = time.monotonic() + _SETTLING
    cause = root_cause(list(reports.values()))
    _end(processes, _FAILURE_GRACE)
    return Outcome(results.get(0) if cause is None else None, cause)


def _hear(rank: int, process: BaseProcess, pipe: Connection) -> tuple[RankReport, Any] | None:
    """A rank's report and result; of one that ended without, what its exit code says."""
    ended = not process.is_alive()
    try:
        if pipe.poll():
            report, result = pipe.recv()
            return report, result
    except (EOFError, OSError):  # killed in the middle of its report
        process.join()
        ended = True
    return (killed(rank, process.exitcode), None) if ended else None


def _end(processes: Sequence[BaseProcess], grace: float) -> None:
    """Tell the ranks that are still there to stop; kill them after ``grace`` seconds."""
    alive = [process for process in processes if process.is_alive()]
    try:
        if grace:
            _signal(alive, signal.SIGTERM)
            deadline = time.monotonic() + grace
            for process in alive:
                process.join(max(deadline - time.monotonic(), 0.0))
    finally:  # a second Ctrl-C ends the wait
        alive = [process for process in processes if process.is_alive()]
        _signal(alive, signal.SIGKILL)
        for process in alive:
            process.join(1.0)


def _signal(processes: Sequence[BaseProcess], number: signal.Signals) -> None:
    for process in processes:
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, number)


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Let no signal come between starting the processes and knowing them.

    The ranks inherit this. SIGINT stays blocked there: Ctrl-C in a terminal reaches every process
    of the job, and the parent alone answers it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _inherited(threads: int) -> dict[str, str]:
    """What the ranks' libraries read when they are imported."""
    pools = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    # torch's own lines about lost ranks, with stack traces, would bury the one sentence.
    log_level = os.environ.get("TORCH_CPP_LOG_LEVEL", "FATAL")
    return {**dict.fromkeys(pools, str(threads)), "TORCH_CPP_LOG_LEVEL": log_level}


# -- in a rank -------------------------------------------------------------------------------------


def _enter(rank: int, start: _Start) -> None:
    """Do the work of one rank, and report how it ended."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGTERM, _stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    for other, pipe in enumerate(start.reports):
        if other != rank:
            pipe.close()
    os.environ.update(replace(start.place, rank=rank, local_rank=rank).variables())
    _use_loopback()
    try:
        result = start.work(start.arguments[rank])
        report = RankReport(rank, "completed")
    except BaseException as error:
        result, report = None, report_of(rank, error)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    start.reports[rank].send((report, result if rank == 0 else None))
    if report.kind != "completed":
        # Libraries that wait for lost ranks when the interpreter ends would keep the process.
        os._exit(report.exit_status)
    exit_without_destructors(0)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise Interrupted(number)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)


def _use_loopback() -> None:
    """Have gloo talk over the loopback interface: the host's name may resolve to nothing."""
    names = {name for _, name in socket.if_nameindex()}
    loopback = next((name for name in ("lo", "lo0") if name in names), None)
    if loopback is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
