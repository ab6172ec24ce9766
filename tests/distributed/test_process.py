import itertools
import signal
import threading
import time

import pytest

from idl_cli.distributed.process import Interrupted, watch_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_sent_on_at_the_end(number: signal.Signals) -> None:
    passed_on: list[int] = []
    before = signal.signal(number, lambda received, frame: passed_on.append(received))
    try:
        with watch_signals() as watch:
            assert watch.received is None
            signal.raise_signal(number)
            assert watch.received == number
            assert passed_on == []
        assert passed_on == [number]
    finally:
        signal.signal(number, before)


def test_a_signal_that_is_ignored_stays_so() -> None:
    """As in the background of a shell's script; SIGTERM still ends the training."""
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    told: list[int] = []
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda received, frame: told.append(received))
    try:
        with watch_signals() as watch:
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            signal.raise_signal(signal.SIGINT)
            assert watch.received is None
            signal.raise_signal(signal.SIGTERM)
            assert watch.received == signal.SIGTERM
        assert told == [signal.SIGTERM]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize(("later", "stopped_at"), [(1.5, [0, 1]), (0.1, [0, 1, 2])])
def test_a_second_signal_stops_at_once_unless_it_is_an_echo(
    monkeypatch: pytest.MonkeyPatch, later: float, stopped_at: list[int]
) -> None:
    """A step takes ``later`` seconds; a signal comes in each."""
    clock = itertools.count(0.0, later)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    reached: list[int] = []

    def train() -> None:
        with watch_signals():
            for step in range(3):
                reached.append(step)
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train()
    assert reached == stopped_at


def test_without_a_signal_the_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with watch_signals():
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_other_threads_are_left_alone() -> None:
    received: list[object] = []

    def work() -> None:
        with watch_signals() as watch:
            received.append(watch.received)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert received == [None]


def test_the_interrupt_says_which_signal() -> None:
    error = Interrupted(signal.SIGTERM)
    assert isinstance(error, KeyboardInterrupt)
    assert error.signal == signal.SIGTERM
    assert "SIGTERM" in str(error)
