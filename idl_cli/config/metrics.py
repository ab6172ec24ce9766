"""The figures of a finished run by name: which there are, and whether more of them is better."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

PARTS: Final = ("train", "validation", "test")
"""Parts of a data set that a model is measured on."""

CLASSIFICATION: Final = ("loss", "accuracy", "top5_accuracy")
REGRESSION: Final = ("loss", "r2", "mse", "mae", "mape")

SIM: Final[Mapping[str, bool]] = MappingProxyType(
    {
        "sim.agreement": True,
        "sim.nonzero_fraction": False,
        "sim.state_fit": False,
        "sim.inf_norm_A": False,
        "sim.seconds_states": False,
        "sim.seconds_ab": False,
        "sim.seconds_cd": False,
        "sim.ab.objective": False,
        "sim.cd.objective": False,
        "sim.ab.relative_gap": False,
        "sim.cd.relative_gap": False,
    }
)
"""Figures of state-driven training, and whether a higher one is better."""

_HIGHER: Final = ("accuracy", "r2", "agreement")


def metric_names(command: str) -> tuple[str, ...]:
    """Every figure that a run of ``command`` may have, whatever its task."""
    kinds = dict.fromkeys((*CLASSIFICATION, *REGRESSION))
    names = [f"{part}_{name}" for part in PARTS for name in kinds]
    return (*names, *SIM) if command == "sim" else tuple(names)


def is_higher_better(name: str) -> bool:
    """Whether more of a figure is better: accuracies, R², agreement; of all others less is."""
    return SIM.get(name, name.endswith(_HIGHER))
