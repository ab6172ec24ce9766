"""Real series, as statsmodels ships them: forecasts of ``model=rnn`` beside the persistence one.

Sunspots: 309 yearly numbers (Hoyt and Schatten; SIDC). CO₂: 2,284 weekly means at Mauna Loa
(Keeling and Whorf), 59 of them missing.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import IdlHere

_PACKAGE = find_spec("statsmodels")

pytestmark = pytest.mark.skipif(_PACKAGE is None, reason="needs statsmodels, of the extra dev")


def _file(name: str) -> Path:
    assert _PACKAGE is not None
    assert _PACKAGE.origin is not None
    return Path(_PACKAGE.origin).parent / "datasets" / name / f"{name}.csv"


def _metrics(idl_here: IdlHere, tmp_path: Path, *arguments: str) -> dict[str, float]:
    done = idl_here(
        "train", "model=rnn", "dataset=csv", *arguments, "threads=1", "hydra.run.dir=run"
    )
    assert done.status == 0, done.errors
    metrics: dict[str, float] = json.loads((tmp_path / "run" / "summary.json").read_text())[
        "metrics"
    ]
    return metrics


@pytest.mark.filterwarnings("ignore:mape")  # 1810 had no sunspots
def test_sunspots_by_the_defaults(idl_here: IdlHere, tmp_path: Path) -> None:
    metrics = _metrics(
        idl_here, tmp_path, f"dataset.file={_file('sunspots')}", "dataset.target=SUNACTIVITY"
    )
    # The last 62 years, 1947 to 2008: R² = 0.603 by repeating the last year.
    assert metrics["test_persistence_r2"] == pytest.approx(0.6026, abs=1e-4)
    assert metrics["test_r2"] > 0.80


@pytest.mark.slow
def test_weekly_co2_by_the_defaults(idl_here: IdlHere, tmp_path: Path) -> None:
    metrics = _metrics(idl_here, tmp_path, f"dataset.file={_file('co2')}", "dataset.target=co2")
    # A year's swing beside a trend: repeating the last week alone explains 98.9 %.
    assert metrics["test_persistence_r2"] == pytest.approx(0.989, abs=1e-3)
    assert metrics["test_r2"] > 0.9915
