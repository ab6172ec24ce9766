"""Options of state-driven training: the numbers of both problems, and what the command does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal, TypeAlias

from idl_cli.config.fields import (
    AT_LEAST_ONE,
    COMMAND_ONLY,
    FINITE_NON_NEGATIVE,
    FINITE_POSITIVE,
    LENGTH,
    NON_NEGATIVE,
    POSITIVE,
    PROPER_FRACTION,
    RECORD,
    Existing,
    Range,
)
from idl_cli.models.options import CellOptions

Baseline: TypeAlias = Literal["magnitude", "gradual", "wanda", "sparsegpt", "alps"]
"""Ways to prune the teacher that a sparse model is compared with."""

_PATH_LENGTH = Range(1, 10_000)  # a model each

LambdaScale: TypeAlias = Literal["absolute", "per_sample", "relative"]
Structure: TypeAlias = Literal["full", "feedforward", "convolution"]
Allocation: TypeAlias = Literal["pooled", "per_layer", "uniform"]
RefineLoss: TypeAlias = Literal["auto", "kl", "mse"]


@dataclass(frozen=True, kw_only=True)
class ProblemOptions:
    """The numbers of both row problems; see ``SIM`` for their meaning."""

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
    nonzeros: Annotated[float, Range(0, 1, low_open=True)] | None = None
    structure: Structure = "full"
    allocation: Allocation = "pooled"
    skip_connections: bool = False
    refine_epochs: Annotated[int, NON_NEGATIVE] | None = None
    refine_loss: RefineLoss = "auto"

    def idle(self) -> Iterator[str]:
        """Options that are given, and that a limit on non-zeros or the structure leaves idle."""
        names = []
        if self.nonzeros is not None:
            names += ["lambda_z", "lambda_y", "lambda_scale"]
        if self.structure != "full":
            names += ["kappa", "rescale"]
        yield from (n for n in names if getattr(self, n) != getattr(ProblemOptions, n))

    def problems(self) -> Iterator[str]:
        """What goes with a limit on non-zeros, and what does not."""
        if self.skip_connections and self.structure == "convolution":
            yield (
                "skip_connections=true: with structure=convolution each layer reads what the "
                "teacher's own reads; use structure=feedforward, or leave it out"
            )
        if self.nonzeros is None:
            for name in _OF_A_LIMIT:
                value = getattr(self, name)
                if self.structure == "convolution" and name in _SAID_OF_CONVOLUTIONS:
                    continue
                if value != getattr(ProblemOptions, name):
                    yield (
                        f"{name}={value}: goes with a limit on non-zeros; set nonzeros too, such"
                        " as 0.1"
                    )
            return
        if self.skip_connections and self.structure == "full":
            yield (
                "skip_connections=true: with structure=full every state may be used anyway; use"
                " structure=feedforward, or leave it out"
            )
        if not self.regenerate_states and self.structure == "feedforward":
            yield (
                "regenerate_states=false: structure=feedforward fits every layer on the states of"
                " the layers before it; leave it out"
            )


_OF_A_LIMIT: Final = ("structure", "allocation", "skip_connections", "refine_epochs", "refine_loss")
"""Options that say how a limit on non-zeros is spent."""
_SAID_OF_CONVOLUTIONS: Final = ("structure", "skip_connections")
"""Those that need none with ``structure=convolution``, or never go with it."""


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
    select_lambda: Literal["validation", "certified"] | None = field(
        default=None, metadata=COMMAND_ONLY
    )
    select_epsilon: Annotated[float, FINITE_POSITIVE] = field(default=0.02, metadata=COMMAND_ONLY)
    select_samples: Annotated[int, AT_LEAST_ONE] | None = field(default=500, metadata=COMMAND_ONLY)
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
    baselines: tuple[Baseline, ...] = field(default=("magnitude",), metadata=COMMAND_ONLY)
    prune_zeros: tuple[Annotated[float, Range(0, 1, high_open=True)], ...] = field(
        default=(0.5, 0.8, 0.9, 0.95, 0.98), metadata=COMMAND_ONLY
    )
    prune_epochs: Annotated[int, NON_NEGATIVE] = field(default=5, metadata=COMMAND_ONLY)
    finetune_epochs: Annotated[int, NON_NEGATIVE] = field(default=0, metadata=COMMAND_ONLY)
    save_statistics: bool = field(default=False, metadata={**COMMAND_ONLY, **RECORD})
    load_statistics: Annotated[str, Existing("file")] | None = field(
        default=None, metadata={**COMMAND_ONLY, **RECORD}
    )
    diagnose_rows: bool = field(default=False, metadata={**COMMAND_ONLY, **RECORD})
    dry_run: bool = field(default=False, metadata={**COMMAND_ONLY, **LENGTH})

    def problems(self) -> Iterator[str]:
        """What only makes sense while λ is chosen, or of the samples themselves."""
        yield from super().problems()
        if self.nonzeros is not None:
            yield from self._limit_problems()
        if self.structure == "convolution":
            for name in ("save_statistics", "load_statistics"):
                if getattr(self, name):
                    yield (
                        f"{name}={getattr(self, name)}: structure=convolution records each layer's"
                        " patches anew; leave it out"
                    )
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

    def _limit_problems(self) -> Iterator[str]:
        """What a command cannot do with a limit on non-zeros in place of λ."""
        if self.select_lambda is not None:
            yield "select_lambda: trainer.nonzeros takes lambda's place; leave one of them out"
        if isinstance(self.path, PathOptions):
            yield (
                "path: with trainer.nonzeros a path is a list of shares, or a number of points"
                " from 1 down to trainer.nonzeros"
            )
        if isinstance(self.path, tuple) and any(share > 1 for share in self.path):
            yield (
                f"path={list(self.path)}: with trainer.nonzeros these are shares of the"
                " teacher's parameters, in (0, 1]"
            )
