"""The figures of a finished run by name: which there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from idl_cli.config.describe import did_you_mean

PARTS: Final = ("train", "validation", "test")
"""Parts of a data set that a model is measured on."""

CLASSIFICATION: Final = ("loss", "accuracy", "top5_accuracy")
REGRESSION: Final = ("loss", "r2", "mse", "mae", "mape")

SIM: Final = (
    "sim.agreement",
    "sim.nonzero_fraction",
    "sim.state_fit",
    "sim.inf_norm_A",
    "sim.seconds_states",
    "sim.seconds_ab",
    "sim.seconds_cd",
    "sim.ab.objective",
    "sim.cd.objective",
    "sim.ab.relative_gap",
    "sim.cd.relative_gap",
)
"""Figures of state-driven training."""


def metric_names(own: Iterable[str] = ()) -> tuple[str, ...]:
    """Every figure that a run may have, whatever its task; ``own``: of its command alone."""
    kinds = dict.fromkeys((*CLASSIFICATION, *REGRESSION))
    return (*(f"{part}_{name}" for part in PARTS for name in kinds), *own)


def metric_problems(
    command: str,
    name: str | None,
    dataset: Mapping[str, object] | None,
    own: Iterable[str] = (),
) -> Iterator[str]:
    """Why ``optimized_metric`` can be no figure of such a run, whatever its data turn out to be.

    Args:
        command: the sub-command.
        name: the key's value.
        dataset: the checked keys of the data set, None where they are a run's own.
        own: figures of this command alone, beside those of every model.
    """
    if name is None:
        return
    known = metric_names(own)
    if name not in known:
        hint = did_you_mean(name, known) or f"; choose from {', '.join(known)}"
        yield f"optimized_metric={name}: `idl {command}` measures no such thing{hint}"
    elif name.startswith("validation_") and (dataset or {}).get("validation_fraction") == 0:
        yield (
            f"optimized_metric={name}: dataset.validation_fraction=0 leaves no validation part; "
            "set it above 0, such as 0.1"
        )
