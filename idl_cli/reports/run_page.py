"""``report.html`` of a run: what it left behind, on one page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from idl_cli import __version__
from idl_cli.analysis.pages import Page, Picture, render
from idl_cli.errors import file_refusal
from idl_cli.reports.entries import Schemas, whole_configuration
from idl_cli.reports.run_figures import details, headline, path_tables, section_of, tables
from idl_cli.reports.sections import (
    changed_facts,
    configuration_facts,
    described,
    duration,
    environment_facts,
    now,
    shown_path,
)
from idl_cli.requests.specification import Commands
from idl_cli.run import RunRecord, read_record

REPORT: Final = "report.html"
_LOG_LINES: Final = 60
_CAPTIONS: Final = {
    "path": "Accuracy against the number of weights that are not zero, along the path of λ",
    "learning_curves": "Loss and score by epoch; the vertical line marks the model that was kept",
    "iterations": "The equilibrium solves of the training part: iterations, largest residual, ‖A‖∞",
    "kernels": "The kernels of B, and the l1 norm of A's kernel between each two channels",
    "feature_maps": "Test images, and the equilibrium's maps that vary most among them",
    "gap": "Relative duality gap of both problems against the time of their solver",
    "sparsity": "Which weights are not zero",
    "forecast": "Forecast and truth on the test part",
    "robustness": "Clean, attacked and certified accuracy: the true robust accuracy is between the"
    " last two",
    "sensitivity": "How much each pixel can move each class's output at most, |S|",
    "shift": "Error against the distance from the training range",
}
_WARNING: Final = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ (\w+) \S+: (.*)$")


def run_page(path: Path, commands: Commands) -> str:
    """The report of the run in a directory, as HTML.

    Args:
        path: of the run, ended or not.
        commands: that there are; the keys of their runs are known.
    """
    record = read_record(path)
    schemas = Schemas(commands)
    keys = whole_configuration(record.command, record.config, schemas)
    log = _log(path)
    title = _title(record, keys)
    seconds = duration(record.summary.get("seconds"))
    return render(
        Page(
            kind=f"idl {record.command}" if record.command else "idl",
            title=title,
            subtitle=" · ".join(part for part in (shown_path(path), now(), seconds) if part),
            status=record.status,
            version=__version__,
            headline=list(headline(record)),
            error=record.error,
            warnings=list(dict.fromkeys(_warnings(log))),
            tables=list(tables(record)),
            details=list(details(record)),
            pictures=pictures(path, _CAPTIONS),
            long_tables=list(path_tables(path)),
            changed=changed_facts(record.command, keys, schemas),
            configuration=configuration_facts(keys),
            environment=environment_facts(path),
            log=_end_of(log),
        )
    )


def _title(record: RunRecord, keys: Mapping[str, object]) -> str:
    for name in ("eval", "certify"):
        measured = section_of(record.summary, name)
        if measured.get("run") and measured.get("dataset"):
            return f"{Path(str(measured['run'])).name} on {measured['dataset']}"
    return described(keys) or record.path.name


def pictures(path: Path, captions: Mapping[str, str]) -> list[Picture]:
    """The figures of a directory, those with a caption first."""
    files = {file.stem: file for file in sorted(path.glob("*.png")) if file.is_file()}
    names = [
        *(name for name in captions if name in files),
        *(n for n in files if n not in captions),
    ]
    return [
        Picture(captions.get(name, name.replace("_", " ")), files[name].read_bytes())
        for name in names
    ]


# -- the log ---------------------------------------------------------------------------------------


def _log(path: Path) -> list[str]:
    if file_refusal(path / "run.log") is not None:
        return []
    try:
        return (path / "run.log").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _end_of(log: list[str]) -> list[str]:
    left = len(log) - _LOG_LINES
    return log if left <= 0 else [f"… {left} lines before these, in run.log", *log[left:]]


def _warnings(log: list[str]) -> Iterator[str]:
    for line in log:
        found = _WARNING.match(line)
        if found is not None and found[1] == "WARNING":
            yield found[2]
