"""What ``idl certify`` leaves behind: certify.json, certificates.csv, figures, a table."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from idl_cli.analysis.certificate_plots import robustness_curves, sensitivity_maps
from idl_cli.certificates.certification import METHODS, UNDECIDED
from idl_cli.certificates.lipschitz import LipschitzBounds
from idl_cli.commands.certify.judgement import Judgement
from idl_cli.data.task import Task
from idl_cli.reporting import Reporter
from idl_cli.run import RunDirectory
from idl_cli.run.files import csv_bytes, write_atomic, write_figure


def shares(judgement: Judgement) -> list[dict[str, object]]:
    """The figures of every ε, ascending; ``gap_mean`` is of what branching left open."""
    right = judgement.predictions == judgement.classes
    rows: list[dict[str, object]] = []
    for epsilon, verdicts in sorted(judgement.verdicts.items()):
        row: dict[str, object] = {
            "epsilon": epsilon,
            "certified_accuracy": _share(verdicts.certified & right),
        }
        if epsilon in judgement.survived:
            row["attacked_accuracy"] = _share(judgement.survived[epsilon])
        row["clean_accuracy"] = _share(right)
        row["ms_per_sample"] = 1e3 * float(verdicts.seconds.mean())
        still = ~verdicts.certified & ~verdicts.broken & ~verdicts.reached.isnan()
        row["falsified"] = int(verdicts.broken.sum())
        gap = (verdicts.reached - verdicts.margin)[still]
        row["gap_mean"] = float(gap.mean()) if len(gap) else None
        row["decided_by"] = {
            name: int((verdicts.decided_by == place).sum()) for place, name in enumerate(METHODS)
        }
        rows.append(row)
    return rows


def radius_figures(judgement: Judgement) -> dict[str, float] | None:
    """Means over all samples, those of radius 0 included; None where radii were left out."""
    if not judgement.radii:
        return None
    means = {name: float(values.mean()) for name, values in judgement.radii.items()}
    best = judgement.radii["best"]
    return {
        "mean": means["best"],
        "median": float(best.median()),
        "norm_mean": means["norm"],
        "sensitivity_mean": means["sensitivity"],
        "tight_over_norm": means["best"] / means["norm"] if means["norm"] else float("nan"),
        "ms_per_sample": 1e3 * judgement.radius_seconds,
    }


def metrics(judgement: Judgement) -> dict[str, object]:
    """The figures that comparisons show."""
    found: dict[str, object] = {}
    for row in shares(judgement):
        found["test_accuracy"] = row["clean_accuracy"]
        for kind in ("certified_accuracy", "attacked_accuracy"):
            if kind in row:
                found[f"{kind}_{row['epsilon']:g}"] = row[kind]
    radius = radius_figures(judgement)
    if radius is not None:
        found["certified_radius_mean"] = radius["mean"]
    return found


def write_samples(directory: RunDirectory, judgement: Judgement) -> None:
    """Write certificates.csv, a row a sample."""
    rows = []
    for index in range(len(judgement.classes)):
        row: dict[str, object] = {
            "sample": index,
            "label": int(judgement.classes[index]),
            "prediction": int(judgement.predictions[index]),
        }
        if judgement.radii:
            row["certified_radius"] = float(judgement.radii["best"][index])
            row["sensitivity_radius"] = float(judgement.radii["sensitivity"][index])
            row["norm_radius"] = float(judgement.radii["norm"][index])
        for epsilon, verdicts in sorted(judgement.verdicts.items()):
            place = int(verdicts.decided_by[index])
            row[f"certified_{epsilon:g}"] = place != UNDECIDED
            row[f"decided_by_{epsilon:g}"] = None if place == UNDECIDED else METHODS[place]
            row[f"margin_{epsilon:g}"] = float(verdicts.margin[index])
            row[f"reached_{epsilon:g}"] = float(verdicts.reached[index])
            if epsilon in judgement.survived:
                row[f"survived_{epsilon:g}"] = bool(judgement.survived[epsilon][index])
        rows.append(row)
    write_atomic(directory.path / "certificates.csv", csv_bytes(rows))


def draw(
    directory: RunDirectory, judgement: Judgement | None, bounds: LipschitzBounds, task: Task
) -> None:
    """Write the figures."""
    if judgement is not None:
        rows = shares(judgement)
        curves = {
            kind: [float(str(row[f"{kind}_accuracy"])) for row in rows]
            for kind in ("clean", "attacked", "certified")
            if all(f"{kind}_accuracy" in row for row in rows)
        }
        epsilon = [float(str(row["epsilon"])) for row in rows]
        write_figure(directory.path / "robustness.png", robustness_curves(epsilon, curves))
    if len(task.input_shape) == 3 and min(task.input_shape[1:]) > 1:
        names = task.class_names or tuple(map(str, range(task.output_dim)))
        maps = bounds.sensitivity.reshape(-1, *task.input_shape).amax(1).numpy()
        write_figure(directory.path / "sensitivity.png", sensitivity_maps(maps, names))


def show(
    console: Reporter,
    title: str,
    proof: Mapping[str, object],
    bounds: LipschitzBounds,
    judgement: Judgement | None,
) -> None:
    """Tell the user."""
    console.facts(
        title,
        {
            "‖A‖∞": proof["inf_norm_A"],
            "ρ(|A|) at most": proof["spectral_radius_bound"],
            "proof": proof["proof"],
            "Lipschitz, l∞": bounds.linf,
            "Lipschitz, l2": bounds.l2,
        },
    )
    if judgement is None:
        return
    rows = shares(judgement)
    columns = ("clean_accuracy", "attacked_accuracy", "certified_accuracy", "ms_per_sample")
    console.table(
        f"{len(judgement.classes)} test samples",
        ["ε", "clean", "attacked", "certified", "ms a sample"],
        [[row["epsilon"], *(row.get(name) for name in columns)] for row in rows],
    )
    radius = radius_figures(judgement)
    if radius is not None:
        console.facts(
            "certified radius",
            {
                "mean": radius["mean"],
                "median": radius["median"],
                "mean of the norm bound": radius["norm_mean"],
                "mean of the sensitivity matrix": radius["sensitivity_mean"],
            },
        )


def _share(mask: torch.Tensor) -> float:
    return float(mask.double().mean())
