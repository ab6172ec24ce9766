"""Reports in a real browser, headless: no complaint, no overflow, everything drawn."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest

from idl_cli.analysis.pages import render
from tests.analysis.test_pages import full_page

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
)

# What a script measures in a frame that holds the page; the page itself allows no script.
PROBE = """<!doctype html><body style="margin:0"><iframe id="f" style="border:0" width="{width}"
height="900" src="page.html"></iframe><pre id="out"></pre><script>
document.getElementById("f").onload = event => {{
  const page = event.target.contentDocument, root = page.documentElement;
  const images = [...page.images];
  document.getElementById("out").textContent = "MEASURED" + JSON.stringify({{
    height: root.scrollHeight,
    overflow: root.scrollWidth - root.clientWidth,
    broken: images.filter(image => !image.complete || image.naturalWidth === 0).length,
    images: images.length,
    widest: Math.max(...images.map(image => image.getBoundingClientRect().right)),
    background: event.target.contentWindow.getComputedStyle(page.body).backgroundColor,
    scripts: page.scripts.length,
  }});
}};</script></body>"""

Chromium = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def chromium(tmp_path: Path) -> Chromium:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        assert BROWSER is not None
        return subprocess.run(
            [BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )

    return run


def measure(chromium: Chromium, folder: Path, page: str, width: int) -> dict[str, object]:
    (folder / "page.html").write_text(page)
    (folder / "probe.html").write_text(PROBE.format(width=width))
    done = chromium(
        "--allow-file-access-from-files",
        "--virtual-time-budget=5000",
        "--dump-dom",
        (folder / "probe.html").as_uri(),
    )
    found = re.search(r"MEASURED(\{.*?\})</pre>", done.stdout)
    assert found is not None, done.stdout[-500:] + done.stderr[-500:]
    assert "CONSOLE" not in done.stderr, done.stderr
    measured: dict[str, object] = json.loads(unescape(found[1]))
    return measured


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_its_window(chromium: Chromium, tmp_path: Path, width: int) -> None:
    long = full_page("a_word_that_has_no_place_to_break_" * 6)
    measured = measure(chromium, tmp_path, render(long), width)
    assert measured["overflow"] == 0
    assert measured["broken"] == 0
    assert measured["images"] == 1
    assert float(str(measured["widest"])) <= width
    assert 500 < int(str(measured["height"])) < 20000


def test_the_page_runs_no_script_of_a_runs_name(chromium: Chromium, tmp_path: Path) -> None:
    hostile = "</pre></style><script>document.title='taken'</script><img src=x onerror=alert(1)>"
    measured = measure(chromium, tmp_path, render(full_page(hostile)), 800)
    assert (measured["scripts"], measured["images"]) == (0, 1)


def test_a_screenshot_is_neither_empty_nor_of_one_colour(
    chromium: Chromium, tmp_path: Path
) -> None:
    (tmp_path / "page.html").write_text(render(full_page("words")))
    picture = tmp_path / "page.png"
    page = (tmp_path / "page.html").as_uri()
    chromium(f"--screenshot={picture}", "--window-size=1280,1600", page)
    data = picture.read_bytes()
    assert struct.unpack(">II", data[16:24]) == (1280, 1600)
    assert len(data) > 20_000
