"""docs/production.md and docs/sklearn.md do what they say, from training to a file of one's own."""

from __future__ import annotations

import csv
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import IdlHere
from tests.documented import DOCS

_BLOCK = re.compile(r"```(console|python)\n(.*?)```", re.DOTALL)


@pytest.mark.slow
def test_from_training_to_a_prediction_elsewhere(tmp_path: Path, idl_here: IdlHere) -> None:
    pytest.importorskip("onnxruntime")
    page = (DOCS / "production.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for kind, text in _BLOCK.findall(page[: page.index("## Predictions")]):
        if kind == "python":
            exec(text, names)
            continue
        for line in text.splitlines():
            program, *words = shlex.split(line.removeprefix("$ "))
            if program == "idl":
                done = idl_here(*words, *(["threads=1"] if words[0] == "train" else []))
                assert done.status == 0, done.errors
            else:
                subprocess.run([sys.executable, *words], check=True, cwd=tmp_path)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    classes = [row["class"] for row in rows]
    assert len(classes) == 20
    assert names["classes"] == classes
    assert (tmp_path / "classes.txt").read_text().split() == classes
    card = (tmp_path / "hub" / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\n")
    assert "test_accuracy" in card
    assert (tmp_path / "hub" / "model.safetensors").is_file()


@pytest.mark.filterwarnings("ignore:.*:idl_cli.errors.ConvergenceWarning")
def test_the_page_of_scikit_learn() -> None:
    names: dict[str, object] = {}
    for kind, text in _BLOCK.findall((DOCS / "sklearn.md").read_text(encoding="utf-8")):
        assert kind == "python"
        exec(text, names)
