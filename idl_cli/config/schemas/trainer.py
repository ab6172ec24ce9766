"""How a model is trained: the gradient trainer of ``idl train``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from idl_cli.config.fields import AT_LEAST_ONE, COMMAND_ONLY, FRACTION, NON_NEGATIVE, POSITIVE


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
    epochs: Annotated[int, AT_LEAST_ONE] = 30
    batch_size: Annotated[int, AT_LEAST_ONE] = field(default=128, metadata=COMMAND_ONLY)
    loss: Literal["auto", "cross_entropy", "mse"] = "auto"
    label_smoothing: Annotated[float, FRACTION] = 0.0
    class_weights: Literal["balanced"] | tuple[Annotated[float, NON_NEGATIVE], ...] | None = None
    clip_norm: Annotated[float, POSITIVE] | None = 1.0
    accumulate: Annotated[int, AT_LEAST_ONE] = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    on_nonfinite: Literal["stop", "skip", "rollback"] = "stop"
    max_time: Annotated[float, POSITIVE] | None = None
    checkpoint_every: Annotated[int, AT_LEAST_ONE] | None = None
    keep_sparsity: bool = False
    dry_run: bool = field(default=False, metadata=COMMAND_ONLY)
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)

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
