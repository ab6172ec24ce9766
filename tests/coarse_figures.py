"""Figures of small runs, drawn in a quarter of the time: without a layout, in few pixels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch


@contextmanager
def coarse_figures() -> Iterator[None]:
    """Draw all that a figure shows, but do not arrange it: that takes longer than a small run."""
    with (
        patch("matplotlib.figure.Figure.get_layout_engine", return_value=None),
        patch("idl_cli.run.files._FIGURE_DPI", 30),
    ):
        yield
