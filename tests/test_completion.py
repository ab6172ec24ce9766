"""Shell completion: what is offered, and the round trip through a real bash."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from idl_cli.cli import main
from idl_cli.commands import SUB_COMMANDS, module_of
from idl_cli.completion import candidates


def offered(line: str) -> list[str]:
    return candidates(line, SUB_COMMANDS, module_of)


def test_first_word_is_a_command() -> None:
    assert {f"{name} " for name in SUB_COMMANDS} < set(offered("idl "))
    assert offered("idl tr") == ["train "]
    assert offered("idl tr ") == []


def test_groups_keys_and_sections_are_offered_one_level_at_a_time() -> None:
    first = offered("idl train ")
    assert {"model=", "model.", "seed=", "experiment="} <= set(first)
    assert not any(each.startswith("model.kappa") for each in first)
    assert offered("idl train model.ka") == ["model.kappa="]
    assert "model.forward.tol=" in offered("idl train model.forward.")


def test_options_choices_and_flags() -> None:
    assert offered("idl train scheduler=co") == ["scheduler=constant ", "scheduler=cosine "]
    assert "model.activation=relu " in offered("idl train model.activation=")
    assert offered("idl train deterministic=") == ["deterministic=false ", "deterministic=true "]
    assert "device=cuda " in offered("idl train device=")
    assert "optimizer=adam,sgd " in offered("idl train -m optimizer=adam,s")
    assert offered("idl train --cfg j") == ["job "]
    assert "--config-dir " in offered("idl train --c")
    assert offered("idl list sche") == ["scheduler "]


def test_what_runs_a_sweep_is_offered() -> None:
    assert offered("idl train -m hydra/l") == ["hydra/launcher="]
    assert "hydra/launcher=joblib " in offered("idl train -m hydra/launcher=")
    assert offered("idl train -m hydra/sweeper=o") == ["hydra/sweeper=optuna "]
    assert offered("idl train hydra.run.") == ["hydra.run.dir="]


def test_a_section_that_may_be_a_value_is_offered_as_both() -> None:
    assert offered("idl sim trainer.pat") == ["trainer.path.", "trainer.path="]
    assert offered("idl train model.forw") == ["model.forward."]


def test_keys_follow_the_options_chosen_on_the_line() -> None:
    assert "optimizer.momentum=" not in offered("idl train optimizer.")
    assert "optimizer.momentum=" in offered("idl train optimizer=sgd optimizer.")


def test_a_users_directory_is_looked_into(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tiny.yaml").write_text("name: implicit\n")
    assert offered(f"idl train --config-dir {tmp_path} model=tin") == ["model=tiny "]
    assert "model.kappa=" in offered(f"idl train --config-dir {tmp_path} model=tiny model.")


def test_paths_are_offered_where_a_path_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs" / "train").mkdir(parents=True)
    assert offered("idl eval run=o") == ["run=outputs/"]
    assert offered("idl eval run=outputs/") == ["run=outputs/train/"]


@pytest.mark.parametrize("line", ["idl", "idl nosuch ", "idl train =", "idl env x y", ""])
def test_odd_lines_break_nothing(line: str) -> None:
    assert all(isinstance(each, str) for each in offered(line))


def test_a_shell_that_is_not_known_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-sc", "install=powershell"]) == 2
    assert "install=bash" in capsys.readouterr().err


def test_the_script_is_the_same_behind_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-sc", "install=bash"]) == 0
    plain = capsys.readouterr().out
    assert main(["train", "-sc", "install=bash"]) == 0
    assert capsys.readouterr().out == plain
    assert main(["-sc", "install=zsh"]) == 0
    assert capsys.readouterr().out == "autoload -Uz bashcompinit && bashcompinit\n" + plain


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("breaks", ["default", "no ="])
def test_bash_completes_a_line(breaks: str, tmp_path: Path) -> None:
    """Source the script in bash and complete as readline would, with and without breaks at =."""
    shim = tmp_path / "idl"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m idl_cli "$@"\n')
    shim.chmod(0o755)
    script = r"""
        eval "$(idl -sc install=bash)"
        [[ $1 == "no =" ]] && COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
        function_name=$(complete -p idl | sed 's/.*-F \([^ ]*\).*/\1/')
        ask() {
            COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9 COMPREPLY=()
            $function_name idl "" ""
            printf '%s|' "${COMPREPLY[@]}"
            printf '\n'
        }
        ask "idl tr"
        ask "idl train model.act"
        ask "idl train scheduler=co"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", breaks],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    options = ["constant ", "cosine "]
    if breaks == "no =":
        options = [f"scheduler={option}" for option in options]
    assert done.stdout.splitlines() == ["train |", "model.activation=|", "|".join([*options, ""])]
