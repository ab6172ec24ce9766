"""``idl COMMAND --help``: legible at any width, complete, and of the options it is asked with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hydra._internal.utils import get_args_parser

from idl_cli import registry
from idl_cli.config.keys import comments_in, key_facts
from idl_cli.config.options import config_directory
from idl_cli.errors import ConfigError
from idl_cli.requests.help_page import FLAGS, help_page
from idl_cli.requests.request import Request
from tests.conftest import IdlHere
from tests.sub_commands import COMMANDS


def _page(command: str, *overrides: str, width: int = 80) -> str:
    return help_page(Request(COMMANDS[command], COMMANDS, overrides, root=command), width)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_line_is_wider_than_the_terminal(command: str, width: int) -> None:
    assert max(map(len, _page(command, width=width).splitlines())) <= width


@pytest.mark.parametrize("command", ["train", "sim"])
def test_every_key_of_the_options_chosen_is_there_with_its_meaning(command: str) -> None:
    page = _page(command, width=400)
    chosen = dict(re.findall(r"^  (\w+)=(\w+) +(?:or|what)", page, re.MULTILINE))
    assert set(chosen) == set(COMMANDS[command].sections)
    for group, option in chosen.items():
        comments = comments_in(config_directory() / group / f"{option}.yaml")
        for facts in key_facts(registry.schema_of(group, option), comments):
            assert f"\n  {group}.{facts.key}=" in page
            assert facts.meaning in page, facts.key


def test_the_options_given_decide_what_is_shown() -> None:
    page = _page("train", "model=spiky/rnn", "dataset=csv", "optimizer.lr=0.5")
    assert "  model=spiky/rnn " in page
    assert "  model.rank=2 " in page
    assert "  optimizer.lr=0.5 " in page
    assert re.search(r"^  dataset.target= +needed: column to forecast", page, re.MULTILINE)


def test_presets_of_another_command_are_left_out() -> None:
    assert "sim_fashion_mnist" not in _page("train")
    page = _page("sim")
    assert "sim_fashion_mnist" in page
    assert "digits_low_rank" not in page
    assert "_parts" not in page


def test_an_option_of_the_user_is_offered(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("name: implicit\nhidden_dim: 3\n")
    request = Request(
        COMMANDS["train"], COMMANDS, ("model=mine",), root="train", search_path=(tmp_path,)
    )
    page = help_page(request, 80)
    assert "  model=mine " in page
    assert "  model.hidden_dim=3 " in page
    assert "  model.kappa=0.95 " in page, "a key that the file leaves out has its default"


def test_an_option_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean rnn"):
        _page("train", "model=rnnn")


def test_the_flags_are_those_of_the_parser() -> None:
    """Two are left out: -r is what happens anyway, and what unpickles a file is not offered."""
    known = {flag for action in get_args_parser()._actions for flag in action.option_strings}
    named = {flag for entry in FLAGS for flag in re.findall(r"--?[\w-]+", entry)}
    left_out = {"--run", "-r", "--experimental-rerun", "--version", "--shell-completion", "-sc"}
    assert named == known - left_out


def test_help_needs_no_run_and_starts_none(idl_here: IdlHere, tmp_path: Path) -> None:
    done = idl_here("eval", "--help")
    assert done.status == 0, done.errors
    assert re.search(r"^  run= +needed: directory of the run", done.output, re.MULTILINE)
    assert not list(tmp_path.iterdir())
