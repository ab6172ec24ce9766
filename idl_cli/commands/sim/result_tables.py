"""The tables that ``idl sim`` ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from idl_cli.reporting import Reporter
from idl_cli.sim.fit.diagnosis import RowDiagnosis
from idl_cli.sim.fit.selection import Candidate

_SCORES = ("accuracy", "loss", "r2", "mse")
_MOST_ROWS = 20


def result_rows(
    report: Mapping[str, object], test: Mapping[str, float]
) -> list[tuple[object, object, object]]:
    """The rows (what, teacher, implicit model) of the closing table.

    Args:
        report: the section ``sim`` of the summary.
        test: figures on the test part, the teacher's with the prefix ``teacher_``.
    """
    rows: list[tuple[object, object, object]] = [
        (f"test {name}", test.get(f"teacher_{name}"), test[name])
        for name in _SCORES
        if name in test
    ]
    tuned = report.get("finetuning")
    if isinstance(tuned, Mapping):
        rows = [
            (f"{label}, {tuned['epochs']} epochs with labels", teacher, value)
            for label, teacher, value in rows
        ]
        before = tuned["before"]
        rows += [
            (f"test {name}, without labels", None, before[f"test_{name}"])
            for name in _SCORES
            if f"test_{name}" in before
        ]
    if report["agreement"] is not None:
        rows.append(("agreement with the teacher", None, report["agreement"]))
    rows += [
        ("non-zero weights", None, _percent(report["nonzero_fraction"])),
        ("||A||_inf", None, report["inf_norm_A"]),
        ("state fit (relative residual)", None, report["state_fit"]),
    ]
    for stage, label in (("ab", "[A B]"), ("cd", "[C D]")):
        part = report[stage]
        assert isinstance(part, Mapping)
        gap = part["relative_gap"]
        if "lower_bound" in part:
            reached = f"error {part['objective']:.3g}, at best {part['lower_bound']:.3g}"
        else:
            reached = f"KKT {part['kkt_residual']:.1e}" if gap is None else f"gap {gap:.1e}"
        rows.append((label, None, f"{part['status']}, {reached}"))
    seconds = {
        "states": "seconds_states",
        "[A B]": "seconds_ab",
        "equilibria": "seconds_equilibria",
        "[C D]": "seconds_cd",
    }
    if "seconds_refinement" in report:
        rows.insert(
            len(rows) - 4, ("weights kept", report["teacher_parameters"], report["nonzeros"])
        )
        seconds["refinement"] = "seconds_refinement"
    rows += [
        ("bytes of the weights, stored", report["teacher_bytes"], report["model_bytes"]),
        (
            "seconds per 1,000 samples",
            report["teacher_seconds_per_1000"],
            report["seconds_per_1000"],
        ),
    ]
    rows += [(f"seconds: {label}", None, report[key]) for label, key in seconds.items()]
    return rows


def candidate_row(each: Candidate, best: Candidate) -> tuple[object, ...]:
    """One λ that was tried."""
    share = _percent(each.nonzero_fraction)
    return (each.lambda_z, each.score, share, "chosen" if each is best else "")


def show_rows(stages: Mapping[str, Sequence[RowDiagnosis]], console: Reporter) -> None:
    """Show the rows that are dead, use all their budget, or are not solved; the first few."""
    for stage, label in (("ab", "[A B]"), ("cd", "[C D]")):
        rows = stages[stage]
        notable = [row for row in rows if row.dead or row.budget_bound or row.status == "inexact"]
        console.message(
            f"{label}: {len(rows)} rows, {sum(row.dead for row in rows)} dead, "
            f"{sum(row.budget_bound for row in rows)} at their budget, "
            f"{sum(row.status == 'inexact' for row in rows)} inexact (all in rows.json)"
        )
        if notable:
            console.table(
                f"rows of {label}" + (f", first {_MOST_ROWS}" if len(notable) > _MOST_ROWS else ""),
                ["row", "state of", "what", "status", "gap", "non-zeros"],
                [
                    (row.row, row.block, _what(row), row.status, row.relative_gap, row.nonzeros)
                    for row in notable[:_MOST_ROWS]
                ],
            )


def _what(row: RowDiagnosis) -> str:
    said = [text for text, true in (("dead", row.dead), ("at budget", row.budget_bound)) if true]
    return ", ".join(said) or "inexact"


def _percent(share: object) -> str:
    assert isinstance(share, float)
    return f"{share:.1%}"
