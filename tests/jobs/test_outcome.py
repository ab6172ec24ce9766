"""How a job fails: what it leaves in memory, what it says, and what is no failure."""

from __future__ import annotations

import signal
import weakref
from pathlib import Path

import pytest

from idl_cli.errors import DataError
from idl_cli.jobs.outcome import one_line, recorded, release
from idl_cli.reporting import SilentReporter
from idl_cli.run import RunDirectory, read_summary


class _Tensor:
    """Stands for what fills the memory."""


def test_a_failed_job_holds_no_memory() -> None:
    kept: list[weakref.ref[_Tensor]] = []

    def work() -> None:
        large = _Tensor()
        kept.append(weakref.ref(large))
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise RuntimeError("outer") from error

    with pytest.raises(RuntimeError) as caught:
        work()
    failure = caught.value
    del caught
    assert kept[0]() is not None
    release(failure)
    assert kept[0]() is None


def test_running_out_of_memory_is_said_in_one_line() -> None:
    torch_says = RuntimeError(
        "[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 1024 bytes. Error code 12\nmore"
    )
    advice = "; use fewer samples, smaller batches or models"
    assert one_line(torch_says) == f"out of memory: tried to allocate 1024 bytes{advice}"
    assert one_line(MemoryError()) == f"out of memory{advice}"
    too_large = RuntimeError("Storage size calculation overflowed with sizes=[9, 9]")
    assert one_line(too_large).startswith("out of memory: Storage size calculation overflowed")
    assert one_line(ValueError("first\nsecond")) == "ValueError: first"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_that_a_library_calls_by_another_name_is_one(
    tmp_path: Path, number: signal.Signals
) -> None:
    def job() -> None:
        with (
            RunDirectory(tmp_path / "run", command="sim") as directory,
            recorded(directory, SilentReporter()),
        ):
            try:
                signal.raise_signal(number)
            except KeyboardInterrupt as error:
                raise DataError("model.safetensors: damaged") from error

    with pytest.raises(KeyboardInterrupt) as raised:
        job()
    assert getattr(raised.value, "signal", signal.SIGINT) == number
    assert read_summary(tmp_path / "run")["status"] == "interrupted"
