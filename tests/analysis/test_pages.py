"""Reports as pages: nothing from outside, nothing unescaped."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from io import BytesIO

import pytest
from matplotlib.figure import Figure

from idl_cli.analysis.pages import Cell, Fact, Facts, Page, Picture, Table, render

HOSTILE = "<script>alert('x')</script> & \"quoted\" {{ 7 * 7 }}"


def picture() -> Picture:
    figure = Figure(figsize=(3.0, 2.0))
    figure.subplots().plot([0, 1], [0, 1])
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return Picture(HOSTILE, buffer.getvalue())


def full_page(text: str = HOSTILE) -> Page:
    fact = Fact(text, text, text)
    return Page(
        kind=text,
        title=text,
        subtitle=text,
        status="failed",
        version=text,
        headline=[fact],
        error=text,
        warnings=[text],
        tables=[Table(text, [text], [[Cell(text, "0/report.html")], [Cell(text)]], [True], 0)],
        pictures=[picture()],
        details=[Facts(text, [fact])],
        changed=[fact],
        configuration=[fact],
        environment=[fact],
        log=[text, text],
    )


class _Reader(HTMLParser):
    """The tags, what they refer to, and whether every one is closed."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.text: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def close(self) -> None:
        super().close()
        assert self._open == []


def read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    return reader


def test_a_page_is_whole_and_needs_nothing_else() -> None:
    page = render(full_page())
    reader = read(page)
    assert "script" not in reader.tags
    assert {each.partition(",")[0] for each in reader.references} == {
        "data:",
        "data:image/png;base64",
        "0/report.html",
    }
    assert "@import" not in page
    assert "url(" not in page
    assert "default-src 'none'" in page


def test_every_text_is_escaped() -> None:
    page = render(full_page())
    assert "<script" not in page
    assert "49" not in re.sub(r"base64,[^\"]*", "", page), "no text is a template"
    shown = "".join(read(page).text)
    assert shown.count(HOSTILE) == 28


def test_a_bare_page_has_no_empty_sections() -> None:
    page = render(Page("idl train", "implicit", "here", "completed", "0.1.0"))
    reader = read(page)
    assert "section" not in reader.tags
    assert "table" not in reader.tags


@pytest.mark.parametrize("scheme", ["prefers-color-scheme: dark", "@media print"])
def test_both_schemes_and_paper_are_served(scheme: str) -> None:
    assert scheme in render(full_page())


def test_a_picture_knows_its_size() -> None:
    assert picture().size == (288, 192)
