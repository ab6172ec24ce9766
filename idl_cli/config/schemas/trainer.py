"""How a model is trained: by gradient (``idl train``) or from a teacher's states (``idl sim``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from idl_cli.config.fields import (
    AT_LEAST_ONE,
    COMMAND_ONLY,
    FRACTION,
    LENGTH,
    NON_NEGATIVE,
    POSITIVE,
    PROCESSES,
    RECORD,
    Existing,
    Range,
)


@dataclass(frozen=True)
class EarlyStopping:
    """When to stop for lack of progress on the validation part."""

    patience: Annotated[int, AT_LEAST_ONE] | None = None
    min_delta: Annotated[float, NON_NEGATIVE] = 0.0
    metric: Literal["auto", "accuracy", "loss", "r2", "mse"] = "auto"


@dataclass(frozen=True)
class Gradient:
    """Gradient descent through the equilibrium (implicit differentiation)."""

    name: Literal["gradient"] = "gradient"
    epochs: Annotated[int, AT_LEAST_ONE] = field(default=30, metadata=LENGTH)
    batch_size: Annotated[int, AT_LEAST_ONE] = field(default=128, metadata=COMMAND_ONLY)
    loss: Literal["auto", "cross_entropy", "mse"] = "auto"
    label_smoothing: Annotated[float, FRACTION] = 0.0
    class_weights: Literal["balanced"] | tuple[Annotated[float, NON_NEGATIVE], ...] | None = None
    clip_norm: Annotated[float, POSITIVE] | None = 1.0
    accumulate: Annotated[int, AT_LEAST_ONE] = 1
    devices: Annotated[int, AT_LEAST_ONE] | tuple[Annotated[int, NON_NEGATIVE], ...] | None = field(
        default=None, metadata={**COMMAND_ONLY, **PROCESSES}
    )
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    on_nonfinite: Literal["stop", "skip", "rollback"] = "stop"
    max_time: Annotated[float, POSITIVE] | None = field(default=None, metadata=LENGTH)
    checkpoint_every: Annotated[int, AT_LEAST_ONE] | None = field(default=None, metadata=RECORD)
    keep_sparsity: bool = False
    dry_run: bool = field(default=False, metadata={**COMMAND_ONLY, **LENGTH})
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping, metadata=LENGTH)

    def problems(self) -> Iterator[str]:
        """What belongs to the cross-entropy does not go with the mean squared error."""
        if self.loss == "mse" and self.label_smoothing:
            yield (
                f"trainer.label_smoothing={self.label_smoothing:g}: trainer.loss=mse has no label"
                " smoothing; use trainer.loss=auto or cross_entropy, or set it to 0"
            )
        if self.loss == "mse" and self.class_weights is not None:
            yield (
                "trainer.class_weights: trainer.loss=mse weighs all samples alike; use"
                " trainer.loss=auto or cross_entropy, or set it to null"
            )


@dataclass(frozen=True)
class Path:
    """A geometric grid from λ_max, where all weights are zero, down."""

    points: Annotated[int, AT_LEAST_ONE] = 30
    smallest: Annotated[float, Range(0, 1, low_open=True, high_open=True)] = 1e-5


@dataclass(frozen=True)
class Sim:
    """A teacher's states matched by convex optimisation, with a certificate."""

    name: Literal["sim"] = "sim"
    kappa: Annotated[float, Range(0, 1, low_open=True, high_open=True)] = 0.95
    lambda_z: Annotated[float, NON_NEGATIVE] = 1e-5
    lambda_y: Annotated[float, NON_NEGATIVE] = 1e-6
    lambda_scale: Literal["absolute", "per_sample", "relative"] = "relative"
    l2: Annotated[float, NON_NEGATIVE] = 0.0
    tol: Annotated[float, Range(0, 1, low_open=True, high_open=True)] = 1e-6
    samples: Annotated[int, AT_LEAST_ONE] | None = None
    batch_size: Annotated[int, AT_LEAST_ONE] = field(default=1024, metadata=COMMAND_ONLY)
    rescale: bool = True
    regenerate_states: bool = True
    max_time: Annotated[float, POSITIVE] | None = field(default=None, metadata=LENGTH)
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
    path: Annotated[int, AT_LEAST_ONE] | Path | tuple[Annotated[float, POSITIVE], ...] | None = (
        field(default=None, metadata=COMMAND_ONLY)
    )
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
            yield "trainer.lambda_grid=[]: must name at least one value for trainer.select_lambda"
        if self.max_nonzero_fraction is not None and self.select_lambda is None:
            yield (
                f"trainer.max_nonzero_fraction={self.max_nonzero_fraction:g}: limits what"
                " trainer.select_lambda=validation may choose; set that too"
            )
        if isinstance(self.path, tuple) and len(set(self.path)) < max(len(self.path), 1):
            yield (
                f"trainer.path={list(self.path)}: must name at least one value, and none twice;"
                " null for no path"
            )
