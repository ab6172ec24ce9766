from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from idl_cli.analysis.typeset import latex, markdown

COLUMNS = ["hidden_dim", "what|it_is"]
ROWS = [["100", r"50 % & \{more}_#$ ~^ <a|b>"], ["1e-6", "λ ≤ κ ± “x”"]]


def test_markdown_escapes_pipes_and_aligns() -> None:
    lines = markdown(COLUMNS, ROWS, [True, False], ["a `note`\nof two lines"]).splitlines()
    assert lines[0].startswith("| hidden\\_dim | what\\|it\\_is")
    assert lines[1].startswith("| ----------: | --")
    assert lines[2].startswith("|         100 | 50 % & \\\\{more}\\_\\#$ \\~^ \\<a\\|b\\>")
    assert len({len(line) for line in lines[:4]}) == 1
    assert lines[-1] == r"- a \`note\` of two lines"


def test_latex_escapes_what_latex_reads_as_its_own() -> None:
    made = latex(COLUMNS, ROWS, [True, False], ["failed:\n100 %"])
    assert r"\begin{tabular}{rl}" in made
    assert r"hidden\_dim & what\textbar{}it\_is \\" in made
    assert (
        r"$100$ & 50 \% \& \textbackslash{}\{more\}\_\#\$ \textasciitilde{}\textasciicircum{}"
        r" \textless{}a\textbar{}b\textgreater{} \\"
    ) in made
    assert r"$1 \times 10^{-6}$ & $\lambda$ $\leq$ $\kappa$ $\pm$" in made
    assert "% failed: 100 %" in made


@pytest.mark.skipif(
    shutil.which("pdflatex") is None,
    reason="pdflatex is not installed (Debian: texlive-latex-recommended); CI does without it",
)
def test_latex_compiles_with_booktabs(tmp_path: Path) -> None:
    table = latex(COLUMNS, ROWS, [True, False], ["failed"])
    document = (
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n"
        + table
        + "\\end{document}\n"
    )
    (tmp_path / "table.tex").write_text(document, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "table.pdf").exists()
