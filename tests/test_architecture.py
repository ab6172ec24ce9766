"""docs/architecture.md says what the imports say, and every file that it names is there."""

from __future__ import annotations

import re
from collections import defaultdict

from tests.test_rooms import IMPORTS, PACKAGE, _room

PAGE = PACKAGE.parent / "docs" / "architecture.md"
OPEN_TO_ALL = {"errors", "__version__"}


def rooms_by_the_page() -> dict[str, set[str]]:
    """The table of rooms: what each imports."""
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \| [^|]+ \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    return {room: set(re.findall(r"\w+", names)) for room, names in rows}


def rooms_by_the_imports() -> dict[str, set[str]]:
    """The same from the code."""
    found: dict[str, set[str]] = defaultdict(set)
    for each in IMPORTS:
        parts = each.module.split(".")
        if parts[0] == "idl_cli" and len(parts) > 1:
            home = _room(each.file)
            found[home] |= {parts[1]} - {home} - OPEN_TO_ALL
    return dict(found)


def test_the_table_of_rooms_is_drawn_from_the_imports() -> None:
    drawn = rooms_by_the_imports()
    expected = {
        room: drawn.get(room, set()) for room in drawn if room not in ("errors", "__init__")
    }
    assert rooms_by_the_page() == expected


def test_every_path_it_names_is_there() -> None:
    root = PACKAGE.parent
    named = re.findall(r"`([\w./]+\.(?:py|md|toml))`", PAGE.read_text("utf-8"))
    assert len(named) > 40
    missing = [
        each for each in named if not any((base / each).is_file() for base in (root, PACKAGE))
    ]
    assert not missing


def test_it_answers_twenty_questions() -> None:
    table = PAGE.read_text("utf-8").partition("## Where do I find")[2]
    assert len(re.findall(r"^\| .+ \| `idl_cli/.+` \|$", table, re.MULTILINE)) == 20
