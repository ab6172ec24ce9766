"""What the documentation prints runs as it is printed."""

import re
from pathlib import Path

import pytest

TOUR = Path(__file__).resolve().parents[1] / "docs" / "quick_tour.md"


def test_the_quick_tour_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TOUR.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(code, str(TOUR), "exec"), names)
    figures = names["figures"]
    assert isinstance(figures, dict)
    assert figures["agreement"] > 0.98
    assert figures["accuracy"] > 0.9
    shown = capsys.readouterr().out
    assert "optimal" in shown
    assert "torch.Size([24, 24])" in shown


def test_the_sequences_of_the_documentation_run(capsys: pytest.CaptureFixture[str]) -> None:
    page = TOUR.with_name("sequences.md")
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(code, str(page), "exec"), {})
    assert capsys.readouterr().out == "torch.Size([8, 2]) torch.Size([1, 8, 20])\n"
