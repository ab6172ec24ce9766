"""Files of a user's own configurations: every mistake in one is a sentence that names it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import IdlHere

LAUGHS = "".join(f"x{n}: &x{n} [{f'*x{n - 1}, *x{n - 1}' if n else 1}]\n" for n in range(40))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"trainer:\n\tepochs: 1\n", "line 3: found character"),
        (b"trainer:\n  epochs: 1\n  epochs: 2\n", "line 4: found duplicate key epochs"),
        (b"trainer: [\n", "line 3"),
        (b"trainer: {epochs: 1\nseed: 2\n", "line 3"),
        (b"seed: \xff\n", "can't decode byte 0xff"),
        (b"a: &a [*a]\n", "line 2: *a refers to what it is part of"),
        (LAUGHS.encode(), "more than 100,000 values"),
        (b"a: " + b"[" * 5000, "nested more than 100 levels deep"),
        (b"seed: ${\n", "e.yaml"),
        (b"seed: !!timestamp x\n", "not readable as YAML"),
    ],
)
def test_a_mistake_in_a_preset_is_one_sentence(
    idl_here: IdlHere, tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "c" / "experiment").mkdir(parents=True)
    (tmp_path / "c" / "experiment" / "e.yaml").write_bytes(b"# @package _global_\n" + content)
    done = idl_here("train", "--config-dir", "c", "experiment=e")
    assert done.status == 2
    assert "c/experiment/e.yaml: " in done.errors
    assert said in done.errors
    assert len(done.errors.splitlines()) == 1
    assert not (tmp_path / "outputs").exists()


def test_a_preset_that_is_no_file_keeps_nobody_waiting(idl_here: IdlHere, tmp_path: Path) -> None:
    (tmp_path / "c" / "experiment" / "folder.yaml").mkdir(parents=True)
    os.mkfifo(tmp_path / "c" / "experiment" / "pipe.yaml")
    done = idl_here("train", "--config-dir", "c", "experiment=pipe")
    assert (done.status, "pipe.yaml: is a pipe" in done.errors) == (2, True)
    assert idl_here("train", "--config-dir", "c", "experiment=folder").status == 2
    listed = idl_here("list", "experiment", "--config-dir", "c")
    assert listed.status == 0
    assert "damaged: c/experiment/pipe.yaml: is a pipe" in " ".join(listed.output.split())


def test_an_option_that_a_preset_lacks_is_answered_with_all_options(
    idl_here: IdlHere, tmp_path: Path
) -> None:
    (tmp_path / "c" / "experiment").mkdir(parents=True)
    preset = tmp_path / "c" / "experiment" / "m.yaml"
    preset.write_text("# @package _global_\ndefaults:\n  - override /model: implicid\n")
    done = idl_here("train", "--config-dir", "c", "experiment=m")
    assert done.status == 2
    assert "experiment=m: model=implicid: no such option; choose from " in done.errors
    assert all(name in done.errors for name in ("gru", "lstm", "rnn", "transformer"))
    assert "(did you mean implicit?)" in done.errors
