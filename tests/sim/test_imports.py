"""Every module of ``sim`` can be the first that is imported."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "idl_cli"
MODULES = {
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): file
    for file in (PACKAGE / "sim").rglob("*.py")
}


def test_no_module_needs_one_whose_import_is_under_way() -> None:
    """A package runs before each of its modules, so that what it imports counts as theirs."""
    needs = {name: _needed(name, file) for name, file in MODULES.items()}
    TopologicalSorter(needs).prepare()  # CycleError names a circle


def _needed(name: str, file: Path) -> set[str]:
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:  # as it is imported, not later
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            for target in (node.module, *(f"{node.module}.{each.name}" for each in node.names)):
                parts = target.split(".")
                found |= {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
    return {each for each in found & MODULES.keys() if not f"{name}.".startswith(f"{each}.")}
