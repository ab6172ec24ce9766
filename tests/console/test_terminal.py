"""The terminal: plain lines where nobody watches, one live line where somebody does."""

from __future__ import annotations

import io
import logging
import warnings

import pytest

from idl_cli.console import Console, duration, figures
from idl_cli.console.live_line import PlainTraining
from idl_cli.reporting import Reporter, SilentReporter

RECORD = {
    "epoch": 2,
    "step": 20,
    "split": "train",
    "loss": 0.25,
    "accuracy": 0.9375,
    "validation_accuracy": 0.875,
    "iterations_mean": 12.34,
    "iterations_max": 40,
    "unconverged_share": 0.0,
    "inf_norm_A": 0.95,
    "lr": 1e-3,
}


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def console() -> tuple[Console, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Console(out, err), out, err


def test_both_reporters_follow_the_protocol() -> None:
    reporters: list[Reporter] = [SilentReporter(), console()[0]]
    for reporter in reporters:
        with reporter.training(epochs=2, steps_per_epoch=10) as training:
            training.on_step({"loss": 1.0})
            training.on_epoch(RECORD)
        with reporter.progress("states", total=3) as progress:
            progress.advance()
            progress.note("gap 1e-3")
        reporter.message("done")
        reporter.warning("careful")
        reporter.error("broken")
        reporter.facts("run", {"seed": 0})
        reporter.table("table", ["a"], [[1]])


def test_training_is_one_plain_line_an_epoch_without_a_terminal() -> None:
    reporter, out, _ = console()
    with reporter.training(epochs=10, steps_per_epoch=10, done=1.0) as training:
        for _ in range(10):
            training.on_step({"loss": 1.0})
        training.on_epoch(RECORD)
    (line,) = out.getvalue().splitlines()
    assert line.startswith(
        "epoch  2/10  loss 0.2500  accuracy 0.9375  val accuracy 0.8750  iterations 12.3  max 40"
        "  ‖A‖∞ 0.9500  lr 0.001  "
    )
    assert line.endswith(" left")


class Clock:
    """Shows what it is set to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_long_epoch_is_estimated_from_its_first_steps() -> None:
    said: list[str] = []
    clock = Clock()
    training = PlainTraining(said.append, epochs=10, steps_per_epoch=100, clock=clock)
    for seconds in (30.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0):  # what is set up once takes long
        clock.now += seconds
        training.on_step({"loss": 1.0})
    # 2 s a step: 200 s an epoch, of which 9.94 are left.
    assert said == ["after 6 steps: 3 min 20 s an epoch, about 33 min 08 s left, validation aside"]


def test_a_short_epoch_is_not_estimated_before_its_end() -> None:
    said: list[str] = []
    clock = Clock()
    training = PlainTraining(said.append, epochs=10, steps_per_epoch=20, clock=clock)
    for _ in range(20):
        clock.now += 0.2
        training.on_step({"loss": 1.0})
    assert said == []
    training.on_epoch(RECORD)
    for _ in range(20):
        clock.now += 10.0
        training.on_step({"loss": 1.0})
    assert len(said) == 1


def test_a_resumed_training_continues_the_estimate() -> None:
    """1.5 epochs took 300 s, the half that follows 100 s: 400 s for two, 1600 s for eight more."""
    said: list[str] = []
    clock = Clock()
    training = PlainTraining(
        said.append, epochs=10, steps_per_epoch=2, done=1.5, spent=300.0, clock=clock
    )
    clock.now += 100.0
    training.on_epoch(RECORD)
    (line,) = said
    assert line.endswith("6 min 40 s, 26 min 40 s left")


def test_an_epochs_line_says_where_the_time_went() -> None:
    pace = {
        "seconds": 20.0,
        "samples_per_second": 3000.0,
        "equilibrium_seconds": 12.0,
        "adjoint_seconds": 5.0,
        "data_seconds": 0.5,
    }
    shown = figures({**RECORD, **pace})
    assert shown.endswith("3,000 samples/s  equilibria 60%  adjoints 25%  data 2%")
    assert "samples/s" not in figures(RECORD)


def test_training_is_a_live_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    out = Terminal()
    reporter = Console(out, io.StringIO())
    with reporter.training(epochs=10, steps_per_epoch=10) as training:
        training.on_step({"loss": 1.0})
        training.on_epoch(RECORD)
        reporter.warning("careful")
    shown = out.getvalue()
    assert "2/10" in shown
    assert "accuracy 0.9375" in shown
    assert "careful" in shown, "a warning appears above the live line, not through it"


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    coloured = Terminal()
    Console(io.StringIO(), coloured).warning("careful")
    assert "\x1b[33m" in coloured.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    Console(io.StringIO(), plain).warning("careful")
    assert "\x1b[33m" not in plain.getvalue()


def test_what_is_said_is_said_as_it_is() -> None:
    reporter, out, err = console()
    reporter.message("[bold]no markup[/bold] " + "long " * 60)
    reporter.warning("[1, 2]")
    assert out.getvalue() == "[bold]no markup[/bold] " + "long " * 60 + "\n"
    assert err.getvalue() == "warning: [1, 2]\n"


def test_unconverged_equilibria_are_shown_only_where_there_are_any() -> None:
    assert "unconverged" not in figures(RECORD)
    assert figures({"unconverged_share": 0.0125}) == "unconverged 1.25%"
    assert figures({"split": "train", "other": 3}) == ""


def test_tables_align_numbers_to_the_right() -> None:
    reporter, out, _ = console()
    reporter.table("parts", ["part", "accuracy"], [["train", 0.5], ["test", None], ["all", 12]])
    lines = [line.rstrip() for line in out.getvalue().splitlines() if line.strip()]
    assert lines[0] == "parts"
    ends = {len(line) for line in lines if line.split()[0] in ("train", "test", "all")}
    assert len(ends) == 1


def test_words_stay_whole_in_a_narrow_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "44")
    reporter, out, _ = console()
    columns = ["job", "solver", "test accuracy of it", "non-zero weights"]
    reporter.table("sweep", columns, [[12, "least_squares", 0.7855, "100.0 %"]])
    shown = out.getvalue()
    assert "least_squares" in shown
    assert "accuracy" in shown
    assert max(map(len, shown.splitlines())) <= 44


def test_everything_said_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    reporter, _, _ = console()
    with caplog.at_level(logging.INFO):
        reporter.message("hello")
        reporter.warning("careful")
        reporter.facts("run", {"seed": 3})
        reporter.table("parts", ["part"], [["train"]])
    assert "hello" in caplog.text
    assert "careful" in caplog.text
    assert "seed  3" in caplog.text
    assert "train" in caplog.text


def test_warnings_become_sentences_each_once() -> None:
    reporter, _, err = console()
    with warnings.catch_warnings():
        warnings.simplefilter("always")  # the test run itself turns warnings into errors
        with reporter.capture_warnings():
            for _ in range(3):
                warnings.warn("inexact", UserWarning, stacklevel=1)
            warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert err.getvalue() == "warning: inexact\n"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(8.06, "8.1 s"), (59.96, "60.0 s"), (200.4, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations_read_well(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_figures_that_are_not_finite_stand_in_tables(value: float) -> None:
    out = io.StringIO()
    Console(out).table("result", ["part", "loss"], [["test", value], ["train", 1.0]])
    assert f"{value:g}" in out.getvalue()
