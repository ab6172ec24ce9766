"""Reports as pages: one HTML file each, with its pictures and its style inside.

The pages need no script and no other file; they follow the reader's light or dark scheme and print.
Every text that comes from a run is escaped, and a content security policy keeps the page from
loading anything, whatever a run's name or error may hold.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_TEMPLATES: Final = Path(__file__).parent / "templates"
_PIXELS_PER_INCH: Final = 150  # of the figures that runs save
_CSS_PIXELS_PER_INCH: Final = 96


@dataclass(frozen=True)
class Fact:
    """A named value.

    Attributes:
        label: its name.
        value: as people read it.
        note: what else belongs to it; for a changed key its default.
    """

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell of a table, a link where ``href`` is given."""

    text: str
    href: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: its heading.
        columns: headings of the columns.
        rows: cells.
        numeric: which columns stand right-aligned.
        marked: index of the row to point out; None for none.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numeric: Sequence[bool]
    marked: int | None = None


@dataclass(frozen=True)
class Facts:
    """Named values under a heading."""

    title: str
    pairs: Sequence[Fact]


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        caption: what it shows.
        data: PNG.
    """

    caption: str
    data: bytes

    @property
    def uri(self) -> str:
        """The picture itself, as an address."""
        return "data:image/png;base64," + base64.b64encode(self.data).decode()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in CSS pixels, at the size that the figure was drawn for."""
        width, height = struct.unpack(">II", self.data[16:24])  # of the header chunk
        scale = _CSS_PIXELS_PER_INCH / _PIXELS_PER_INCH
        return round(width * scale), round(height * scale)


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        kind: what it reports on, such as ``idl train``.
        title: what was done, in a few words.
        subtitle: where and when.
        status: how it ended, one word.
        version: of idl.
        headline: the figures that matter most.
        error: what went wrong; None where nothing did.
        warnings: what was said on the way.
        tables: results.
        pictures: figures.
        long_tables: what figures are drawn from, folded.
        details: further results, less read.
        changed: configuration keys whose value is not the default, the default as their note.
        configuration: all keys.
        environment: versions, device, threads.
        log: the last lines of the log.
    """

    kind: str
    title: str
    subtitle: str
    status: str
    version: str
    headline: Sequence[Fact] = ()
    error: str | None = None
    warnings: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    long_tables: Sequence[Table] = ()
    details: Sequence[Facts] = ()
    changed: Sequence[Fact] = ()
    configuration: Sequence[Fact] = ()
    environment: Sequence[Fact] = ()
    log: Sequence[str] = ()


def render(page: Page) -> str:
    """The page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(page=page) + "\n"
