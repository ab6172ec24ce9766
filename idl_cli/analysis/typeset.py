"""A table as Markdown or LaTeX: for notes and papers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

_LATEX: Final[Mapping[str, str]] = MappingProxyType(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': "''",
        "±": r"$\pm$",
        "×": r"$\times$",
        "≤": r"$\leq$",
        "≥": r"$\geq$",
        "∞": r"$\infty$",
        "‖": r"$\|$",
        "²": r"$^2$",
        "λ": r"$\lambda$",
        "κ": r"$\kappa$",
        "φ": r"$\varphi$",
        "ρ": r"$\rho$",
        "–": "--",
        "—": "---",
        "…": r"\dots{}",
        "\n": " ",
    }
)
_NUMBER: Final = re.compile(r"(-?\d+(?:\.\d+)?)(?:e(-?\d+))?")
_MARKDOWN_MARKS: Final = re.compile(r"([\\`*_\[\]<>#|~])")


def markdown(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    numeric: Sequence[bool],
    notes: Sequence[str] = (),
) -> str:
    """A pipe table, aligned in the source too; what Markdown would read as its own is escaped.

    Args:
        columns: headings.
        rows: cells, a row each.
        numeric: which columns stand right-aligned.
        notes: sentences below the table, a list item each.
    """
    lines = [[_in_markdown(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(columns))]
    rule = [
        "-" * (width - 1) + (":" if right else "-")
        for width, right in zip(widths, numeric, strict=True)
    ]
    head, *body = (
        [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ]
        for line in lines
    )
    text = "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *body)) + "\n"
    return text + "".join(f"\n- {_in_markdown(note)}" for note in notes) + ("\n" if notes else "")


def latex(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    numeric: Sequence[bool],
    notes: Sequence[str] = (),
) -> str:
    r"""A ``tabular`` with the rules of ``booktabs``; every special character is escaped.

    Args:
        columns: headings.
        rows: cells, a row each.
        numeric: which columns stand right-aligned.
        notes: sentences left below the table as comments.
    """
    head, *body = (" & ".join(map(_in_latex, line)) + r" \\" for line in (columns, *rows))
    lines = [
        r"% \usepackage{booktabs}",
        rf"\begin{{tabular}}{{{''.join('r' if right else 'l' for right in numeric)}}}",
        r"\toprule",
        head,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        *(f"% {' '.join(note.split())}" for note in notes),
    ]
    return "\n".join(lines) + "\n"


def _in_markdown(text: str) -> str:
    return _MARKDOWN_MARKS.sub(r"\\\1", " ".join(text.split()))


def _in_latex(text: str) -> str:
    figure = _NUMBER.fullmatch(text)
    if figure is not None:
        mantissa, exponent = figure.groups()
        return f"${mantissa}$" if exponent is None else rf"${mantissa} \times 10^{{{exponent}}}$"
    return "".join(_LATEX.get(letter, letter) for letter in text)
