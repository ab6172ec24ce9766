"""How a state-driven training went, as figures: gap against time, pattern of the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from idl_cli.models.convolutional.feedforward_conv import FeedforwardConv
from idl_cli.models.implicit import ImplicitModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STAGES = (("ab", "[A B]", "#0072B2", "-", "o"), ("cd", "[C D]", "#D55E00", "--", "s"))
_BELOW = 1e-16  # a gap of zero still has a place on a logarithmic axis


def gap_curves(rows: Sequence[Mapping[str, object]], tol: float) -> Figure:
    """Draw each stage's relative duality gap against the seconds its solver has run.

    Args:
        rows: rows of ``metrics.jsonl`` whose ``split`` is ``ab`` or ``cd``.
        tol: the gap asked for, drawn as a horizontal line.
    """
    from matplotlib.figure import Figure  # heavy, and only one rank draws

    figure = Figure(figsize=(5.0, 3.6), layout="constrained")
    axis = figure.subplots()
    for stage, label, color, line, marker in _STAGES:
        points = [
            (float(str(row["seconds"])), max(float(str(row["relative_gap"])), _BELOW))
            for row in rows
            if row.get("split") == stage and row.get("relative_gap") is not None
        ]
        if points:
            seconds, gaps = zip(*points, strict=True)
            axis.plot(seconds, gaps, color=color, linestyle=line, marker=marker, ms=3, label=label)
    axis.axhline(tol, color="0.5", linewidth=0.8, label="tol")
    axis.set_yscale("log")
    axis.set_xlabel("seconds of the solver")
    axis.set_ylabel("relative duality gap")
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def sparsity_pattern(model: ImplicitModel | FeedforwardConv) -> Figure:
    """Draw which entries of [A B; C D], or of each layer's kernels, are not zero.

    Args:
        model: any implicit model.
    """
    from matplotlib.figure import Figure

    if isinstance(model, FeedforwardConv):
        return _pattern_of_kernels(model)
    weights = model.effective_weights()
    n, q = weights.A.shape[0], weights.C.shape[0]
    blocks = [[weights.A, weights.B], [weights.C, weights.D]]
    pattern = np.block([[(block != 0).cpu().numpy() for block in row] for row in blocks])
    figure = Figure(figsize=(7.0, 3.6), layout="constrained")
    axis = figure.subplots()
    axis.imshow(pattern, cmap="Greys", aspect="auto", interpolation="nearest", vmin=0, vmax=1)
    axis.axvline(n - 0.5, color="#D55E00", linewidth=0.8)
    axis.axhline(n - 0.5, color="#D55E00", linewidth=0.8)
    axis.set_xlabel(f"{n} states, then {pattern.shape[1] - n} inputs")
    axis.set_ylabel(f"{n} states, then {q} outputs")
    axis.set_title(f"non-zero entries of [A B; C D]: {pattern.mean():.1%}", fontsize="medium")
    return figure


def _pattern_of_kernels(model: FeedforwardConv) -> Figure:
    """A panel a layer: a row for each output channel, its kernel's entries from left to right."""
    from matplotlib.figure import Figure

    rows = [(layer.weight != 0).flatten(1).cpu().numpy() for layer in model.weights]
    figure = Figure(figsize=(7.0, 1.2 + 1.2 * len(rows)), layout="constrained")
    for axis, pattern in zip(figure.subplots(len(rows), 1), rows, strict=True):
        axis.imshow(pattern, cmap="Greys", aspect="auto", interpolation="nearest", vmin=0, vmax=1)
        axis.set_ylabel(f"{len(pattern)} rows")
        axis.set_xlabel(f"{pattern.shape[1]} weights each, {pattern.mean():.1%} non-zero")
    figure.suptitle("non-zero weights, first layer first", fontsize="medium")
    return figure
