"""Every command line of the documentation is one that the program takes.

Nothing is run: configurations are composed and checked, flags are parsed. Names that stand for the
reader's own (DIR, ``<date>_<time>``) are given something to stand for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from idl_cli import hydra_app
from idl_cli.cli import help_text
from idl_cli.commands import SUB_COMMANDS, compare
from idl_cli.jobs.job import Job
from idl_cli.requests.preflight import preflight
from idl_cli.sweeps.resume import continuation
from tests.documented import command_lines, install_examples, pages
from tests.sub_commands import COMMANDS

_PLACEHOLDERS = ("[GROUP]", "GROUP")  # of `idl list`
_REFUSED = "train model.kappa=1.2 model.hiden_dim=4"  # shown with the sentences it gets


def _every_line() -> list[tuple[str, list[str]]]:
    """Where a command is documented, and the words behind ``idl``; every line once."""
    found: dict[tuple[str, ...], str] = {}
    for page in pages():
        for words in command_lines(page.read_text(encoding="utf-8")):
            if words[0] == "idl" or "idl_cli" in words:
                behind = words[words.index("idl" if words[0] == "idl" else "idl_cli") + 1 :]
                found.setdefault(tuple(map(_stood_in_for, behind)), page.name)
    examples = (("idl --help", help_text()), ("idl compare --help", compare.parser().epilog))
    for origin, text in examples:
        for line in re.findall(r"^  idl (.*?)(?:  .*)?$", text or "", re.MULTILINE):
            found.setdefault(tuple(map(_stood_in_for, line.split())), origin)
    return [(origin, list(words)) for words, origin in found.items() if len(words) > 1]


def _stood_in_for(word: str) -> str:
    return re.sub(r"outputs/\S*<date>_<time>", "DIR", word)


@pytest.fixture
def readers_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with what the documentation takes for granted: DIR, FILE and packages."""
    monkeypatch.chdir(tmp_path)
    install_examples(tmp_path)
    entries = tmp_path / "my_package-1.0.dist-info" / "entry_points.txt"
    text = entries.read_text()
    entries.write_text(
        text.replace("[idl_cli.solvers]", "[idl_cli.solvers]\nmine = my_package:GradientSolver")
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "FILE").touch()
    run = tmp_path / "DIR"
    (run / ".hydra").mkdir(parents=True)
    (run / ".hydra" / "config.yaml").write_text("dataset: {name: identity}\n")
    jobs = [{"job": 0, "overrides": ["solver=cvx"]}]
    plan = {"command": "sim", "request": ["solver=cvx"], "jobs": jobs}
    (run / "jobs.json").write_text(json.dumps(plan))
    options = tmp_path / "mine" / "model"
    options.mkdir(parents=True)
    (options / "small.yaml").write_text("defaults: [implicit]\nhidden_dim: 10\n")
    return tmp_path


def _look_at(words: Sequence[str]) -> None:
    """Parse a command and check its configuration, as far as is possible without running it."""
    name, *arguments = words
    if name.startswith("-"):
        return
    assert name in SUB_COMMANDS, f"no command {name}"
    if name == "compare":
        compare.parser().parse_intermixed_args(arguments)
        return
    if name not in COMMANDS:
        arguments = [each for each in arguments if each not in _PLACEHOLDERS]
        assert all(each in ("--check", "solver", "dataset") for each in arguments)
        return
    flags = hydra_app._parse(name, arguments)
    if hydra_app._asks_only(flags):
        return
    flags.overrides = COMMANDS[name].complete_overrides(flags.overrides)
    continued = continuation(name, flags.overrides)
    if continued is not None:
        flags.overrides, flags.multirun = list(continued.overrides), True
    preflight(hydra_app._request(Job(COMMANDS[name], COMMANDS), flags))


@pytest.mark.slow
@pytest.mark.usefixtures("readers_place")
def test_every_documented_command_is_accepted() -> None:
    lines = _every_line()
    wrong = []
    for origin, words in lines:
        if " ".join(words) == _REFUSED:
            continue
        try:
            _look_at(words)
        except (Exception, SystemExit) as error:
            wrong.append(f"{origin}: idl {' '.join(words)}: {type(error).__name__} {error}")
    assert not wrong, "\n".join(wrong)
    origins = {origin for origin, _ in lines}
    assert {"README.md", "sweeps.md", "path.md", "distributed.md", "idl --help"} <= origins
    assert len(lines) > 70


@pytest.mark.usefixtures("readers_place")
@pytest.mark.parametrize(
    "line",
    [
        _REFUSED,
        "train -m model=implicit,rnnn",
        "sim trainer.path=all",
        "compare SWEEP --over-seed",
        "serve run=DIR",
    ],
)
def test_a_command_that_has_gone_would_be_found(line: str) -> None:
    with pytest.raises((Exception, SystemExit)):
        _look_at(line.split())
