"""Calls in processes of their own, each with a bound on its time and its memory."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

_START = 300.0  # s to import the readers in
_READY = "ready"


def results(
    make: Callable[..., Callable[[Any], Any]],
    arguments: tuple[object, ...],
    inputs: Iterable[Any],
    *,
    processes: int,
    seconds: float,
    growth: int = 1 << 30,
) -> Iterator[tuple[Any, Any]]:
    """Yield (input, result) as they come; the result is "time-out" or "died" where there is none.

    Args:
        make: called with ``arguments`` in each process, returns what is called with the inputs.
        arguments: of ``make``.
        inputs: one a call.
        processes: at once.
        seconds: for one call.
        growth: bytes of memory above those before the first call; twice as many of address space.
    """
    waiting = iter(inputs)
    context = multiprocessing.get_context("spawn")
    workers = [_Worker(context, make, arguments, growth) for _ in range(processes)]
    try:
        busy = [worker for worker in workers if worker.give(waiting)]
        while busy:
            ready = wait([worker.connection for worker in busy], timeout=0.2)
            for worker in list(busy):
                if worker.connection in ready:
                    result = worker.take()
                    if result == _READY:
                        continue
                elif time.monotonic() - worker.since > (seconds if worker.ready else _START):
                    result = "time-out"
                else:
                    continue
                yield worker.input, result
                if result in ("time-out", "died", "memory over bound"):
                    worker.end()
                    index = workers.index(worker)
                    busy.remove(worker)
                    workers[index] = worker = _Worker(context, make, arguments, growth)
                    busy.append(worker)
                if not worker.give(waiting):
                    busy.remove(worker)
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    def __init__(
        self,
        context: Any,
        make: Callable[..., Any],
        arguments: tuple[object, ...],
        growth: int,
    ) -> None:
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, make, arguments, growth), daemon=True
        )
        self.process.start()
        theirs.close()
        self.ready = False
        self.input: Any = None
        self.since = 0.0

    def give(self, waiting: Iterator[Any]) -> bool:
        for self.input in waiting:
            self.since = time.monotonic()
            self.connection.send(self.input)
            return True
        return False

    def take(self) -> Any:
        try:
            result = self.connection.recv()
        except (EOFError, ConnectionResetError):
            return "died"
        if result == _READY:
            self.ready, self.since = True, time.monotonic()
        return result

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _serve(
    connection: Connection,
    make: Callable[..., Any],
    arguments: tuple[object, ...],
    growth: int,
) -> None:
    call = make(*arguments)
    connection.send(_READY)
    with open("/proc/self/statm", encoding="ascii") as statm:
        address_space = int(statm.read().split()[0]) * resource.getpagesize()
    limit = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (address_space + 2 * growth, limit))
    before = _peak_memory()
    while True:
        try:
            item = connection.recv()
        except (EOFError, ConnectionResetError):  # whoever asked has ended
            return
        result = call(item)
        grown = _peak_memory() - before
        connection.send("memory over bound" if grown > growth else result)


def _peak_memory() -> int:
    """Bytes; ru_maxrss would count what the parent held when it started this process, too."""
    with open("/proc/self/status", encoding="ascii") as status:
        peak = next(line for line in status if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * 1024
