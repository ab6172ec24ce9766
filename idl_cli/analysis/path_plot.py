"""Accuracy against the number of weights: a path of λ, the teacher, the teacher pruned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from idl_cli.analysis.series import label_of
from idl_cli.analysis.styles import style, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_DECADES = 3.0  # shown below the largest model: smaller ones are no better than guessing


def path_figure(
    rows: Sequence[Mapping[str, object]],
    *,
    score: str,
    teacher: float,
    teacher_nonzeros: int,
    teacher_parameters: int,
    chosen: Mapping[str, object] | None = None,
) -> Figure:
    """Draw one curve a method.

    Args:
        rows: each with ``method``, ``nonzeros`` and the key ``score``.
        score: key of the figure drawn, such as ``test_accuracy``.
        teacher: the teacher's own.
        teacher_nonzeros: weights and biases of the teacher that are not zero.
        teacher_parameters: all of them: the unit of the horizontal axis.
        chosen: the row whose model the run keeps.
    """
    from matplotlib.figure import Figure  # heavy, and most runs draw none
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axis = figure.subplots()
    axis.axhline(teacher, color="0.45", linewidth=1.0, zorder=1)
    smallest = largest = teacher_nonzeros / teacher_parameters
    for index, method in enumerate(dict.fromkeys(str(row["method"]) for row in rows)):
        points = sorted(
            (float(str(row["nonzeros"])) / teacher_parameters, float(str(row[score])))
            for row in rows
            if row["method"] == method and row.get(score) is not None and row["nonzeros"]
        )
        if not points:
            continue
        smallest, largest = min(smallest, points[0][0]), max(largest, points[-1][0])
        drawn = style(index)
        axis.plot(
            *zip(*points, strict=True),
            color=drawn.color,
            linestyle=drawn.linestyle,
            marker=drawn.marker,
            markersize=4,
            linewidth=1.6,
            label=method,
        )
    if chosen is not None and chosen.get(score) is not None and chosen["nonzeros"]:
        axis.plot(
            [float(str(chosen["nonzeros"])) / teacher_parameters],
            [float(str(chosen[score]))],
            marker="o",
            markersize=11,
            markerfacecolor="none",
            markeredgecolor="black",
            linestyle="none",
            label="kept by this run",
        )
    axis.set_xscale("log")
    axis.set_xlim(max(smallest / 1.3, largest / 10**_MOST_DECADES), largest * 1.3)
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.3g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel(
        f"non-zero weights and biases / parameters of the teacher ({teacher_parameters:,})"
    )
    axis.set_ylabel(label_of(score))
    axis.annotate(
        f"teacher {teacher:.4f}",
        (0.01, teacher),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        fontsize="small",
        color="0.25",
    )
    axis.margins(y=0.08)
    axis.legend(frameon=False, loc="best")
    tidy(axis)
    return figure
