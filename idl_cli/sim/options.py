"""Options of state-driven training: the numbers of both problems, and what the command does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeAlias

from idl_cli.config.fields import (
    AT_LEAST_ONE,
    COMMAND_ONLY,
    FINITE_NON_NEGATIVE,
    LENGTH,
    NON_NEGATIVE,
    POSITIVE,
    PROPER_FRACTION,
    RECORD,
    Existing,
    Range,
)
from idl_cli.models.options import CellOptions

_PATH_LENGTH = Range(1, 10_000)  # a model each

LambdaScale: TypeAlias = Literal["absolute", "per_sample", "relative"]


@dataclass(frozen=True, kw_only=True)
class ProblemOptions:
    """The numbers of both convex problems; see ``SIM`` for their meaning."""

    kappa: Annotated[float, PROPER_FRACTION] = CellOptions.kappa
    lambda_z: Annotated[float, FINITE_NON_NEGATIVE] = 1e-5
    lambda_y: Annotated[float, FINITE_NON_NEGATIVE] = 1e-6
    lambda_scale: LambdaScale = "relative"
    l2: Annotated[float, FINITE_NON_NEGATIVE] = 0.0
    tol: Annotated[float, PROPER_FRACTION] = 1e-6
    samples: Annotated[int, AT_LEAST_ONE] | None = None
    rescale: bool = True
    regenerate_states: bool = True
    max_time: Annotated[float, POSITIVE] | None = field(default=None, metadata=LENGTH)


@dataclass(frozen=True, kw_only=True)
class PathOptions:
    """A geometric grid from λ_max, where all weights are zero, down."""

    points: Annotated[int, _PATH_LENGTH] = 30
    smallest: Annotated[float, PROPER_FRACTION] = 1e-5


@dataclass(frozen=True, kw_only=True)
class SimTrainerOptions(ProblemOptions):
    """A teacher's states matched by convex optimisation, with a certificate."""

    batch_size: Annotated[int, AT_LEAST_ONE] = field(default=1024, metadata=COMMAND_ONLY)
    checkpoint_seconds: Annotated[float, NON_NEGATIVE] = field(
        default=60.0, metadata={**COMMAND_ONLY, **RECORD}
    )
    select_lambda: Literal["validation"] | None = field(default=None, metadata=COMMAND_ONLY)
    lambda_grid: tuple[Annotated[float, POSITIVE], ...] = field(
        default=(1e-3, 5e-4, 2e-4, 1e-4, 5e-5, 2e-5, 1e-5, 3e-6, 1e-6), metadata=COMMAND_ONLY
    )
    max_nonzero_fraction: Annotated[float, Range(0, 1, low_open=True)] | None = field(
        default=None, metadata=COMMAND_ONLY
    )
    path: (
        Annotated[int, _PATH_LENGTH] | PathOptions | tuple[Annotated[float, POSITIVE], ...] | None
    ) = field(default=None, metadata=COMMAND_ONLY)
    prune_baseline: bool = field(default=True, metadata=COMMAND_ONLY)
    prune_zeros: tuple[Annotated[float, Range(0, 1, high_open=True)], ...] = field(
        default=(0.5, 0.8, 0.9, 0.95, 0.98), metadata=COMMAND_ONLY
    )
    prune_epochs: Annotated[int, NON_NEGATIVE] = field(default=5, metadata=COMMAND_ONLY)
    save_statistics: bool = field(default=False, metadata={**COMMAND_ONLY, **RECORD})
    load_statistics: Annotated[str, Existing("file")] | None = field(
        default=None, metadata={**COMMAND_ONLY, **RECORD}
    )
    diagnose_rows: bool = field(default=False, metadata={**COMMAND_ONLY, **RECORD})
    dry_run: bool = field(default=False, metadata={**COMMAND_ONLY, **LENGTH})

    def problems(self) -> Iterator[str]:
        """What only makes sense while λ is chosen, or of the samples themselves."""
        if self.select_lambda is not None and not self.lambda_grid:
            yield "lambda_grid=[]: must name at least one value for trainer.select_lambda"
        if self.max_nonzero_fraction is not None and self.select_lambda is None:
            yield (
                f"max_nonzero_fraction={self.max_nonzero_fraction:g}: limits what"
                " trainer.select_lambda=validation may choose; set that too"
            )
        if isinstance(self.path, tuple) and len(set(self.path)) < max(len(self.path), 1):
            yield (
                f"path={list(self.path)}: must name at least one value, and none twice;"
                " null for no path"
            )
