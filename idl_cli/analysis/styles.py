"""Styles that curves of one figure share: told apart in colour, in grey, and by shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class CurveStyle:
    """Colour, dash pattern and marker of a curve."""

    color: str
    linestyle: str
    marker: str


# Colours of Okabe and Ito, apart for colour-blind readers, ordered by their grey.
CURVE_STYLES: Final = (
    CurveStyle("#0072B2", "-", "o"),
    CurveStyle("#D55E00", "--", "s"),
    CurveStyle("#009E73", ":", "^"),
    CurveStyle("#000000", "-.", "D"),
    CurveStyle("#CC79A7", "-", "v"),
    CurveStyle("#E69F00", "--", "P"),
)


def style(index: int) -> CurveStyle:
    """The style of the index-th curve; they repeat after the last one."""
    return CURVE_STYLES[index % len(CURVE_STYLES)]


def tidy(axis: Axes) -> None:
    """A faint grid, no frame above and at the right."""
    axis.grid(visible=True, color="0.9", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
