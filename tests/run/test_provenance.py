import json

import torch

from idl_cli.run import collect_environment


def test_it_says_what_figures_may_depend_on() -> None:
    environment = collect_environment("cpu")
    assert json.loads(json.dumps(environment)) == environment
    assert environment["threads"] == torch.get_num_threads()
    assert environment["device"] == "cpu"
    packages = environment["packages"]
    assert isinstance(packages, dict)
    assert packages["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_the_command_line_is_the_one_to_type_again(monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["/bin/idl", "--multirun", "seed=0,1"])
    typed = collect_environment(command="train")["command_line"]
    assert typed == ["idl", "train", "--multirun", "seed=0,1"]


def test_outside_a_checkout_there_is_no_revision(monkeypatch) -> None:
    from pathlib import Path

    monkeypatch.setattr(Path, "exists", lambda self: False)
    assert collect_environment()["git"] is None
