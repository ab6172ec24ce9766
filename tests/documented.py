"""Reads the documentation: its command lines, and its examples as an installed package."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

_CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)
_INLINE = re.compile(r"`(idl [^`…]+)`")
_COMMAND = re.compile(r"^\$ ((?:[^\n]*\\\n)*[^\n]*)", re.MULTILINE)


def pages() -> list[Path]:
    """Every page that is written by hand."""
    return [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


def command_lines(page: str) -> Iterator[list[str]]:
    """The words of every command on a page: those of its console blocks and those in its text."""
    for block in _CONSOLE.findall(page):
        for line in _COMMAND.findall(block):
            yield shlex.split(line.replace("\\\n", " "), comments=True)
    text = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    for line in _INLINE.findall(text):
        yield shlex.split(line.replace("\n", " "))


def install_examples(folder: Path) -> None:
    """The examples of docs/extending.md as an installed package: a module and its entry points."""
    page = (DOCS / "extending.md").read_text(encoding="utf-8")
    page = page[page.index("## A solver") :]
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (folder / "my_package.py").write_text("\n\n".join(code), encoding="utf-8")
    metadata = folder / "my_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my_package\nVersion: 1.0\n")
    declared = re.findall(
        r"```toml\n\[project\.entry-points\.\"(.*?)\"\]\n(.*?)```", page, re.DOTALL
    )
    lines = [f"[{group}]\n{names.replace(chr(34), '')}" for group, names in declared]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
