"""The baseline beside a sparse implicit model: its teacher, pruned to as many weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from torch import nn

from idl_cli.assembly.compute import Compute
from idl_cli.assembly.teacher import Teacher
from idl_cli.assembly.teacher_training import teacher_trainer
from idl_cli.models.parameter_count import parameter_count
from idl_cli.models.pruning import count_nonzeros, prune_by_magnitude, smallest_pruned_count

Score = Callable[[nn.Module], dict[str, float]]

PRUNED = "pruned"
FINE_TUNED = "pruned, fine-tuned"


@dataclass(frozen=True)
class FineTuning:
    """How a pruned network is trained on.

    Args:
        epochs: passes over the teacher's training data; 0 for no fine-tuning.
        batch_size: of a step.
        lr: peak learning rate of Adam under a one-cycle schedule.
        seed: of the order of the batches.
    """

    epochs: int
    batch_size: int
    lr: float
    seed: int

    @classmethod
    def of(cls, epochs: int, teacher: dict[str, Any], seed: int) -> FineTuning:
        """As the teacher was trained; a teacher from a run, as teachers are by default."""
        return cls(
            epochs, int(teacher.get("batch_size", 128)), float(teacher.get("lr", 3e-3)), seed
        )


def magnitude_rows(teacher: Teacher, counts: Sequence[int], score: Score) -> list[dict[str, Any]]:
    """Prune copies of the teacher to given numbers of non-zeros, and measure them as they are.

    Args:
        teacher: left as it is.
        counts: weights and biases left; numbers no copy can have are left out.
        score: figures of a network.
    """
    total = parameter_count(teacher.model)
    least = smallest_pruned_count(teacher.model)
    rows = []
    for count in sorted({each for each in counts if least <= each <= total}):
        pruned = _pruned(teacher, count)
        rows.append({"method": PRUNED, **_size(pruned, total), **score(pruned)})
    return rows


def fine_tuned_rows(
    teacher: Teacher,
    counts: Sequence[int],
    score: Score,
    tuning: FineTuning,
    compute: Compute,
    on_done: Callable[[], None],
) -> list[dict[str, Any]]:
    """Prune, train on with the zeros kept and the data of the teacher's training, and measure.

    Args:
        teacher: left as it is.
        counts: as for ``magnitude_rows``.
        score: figures of a network.
        tuning: how it is trained.
        compute: device and dtype.
        on_done: called after each.
    """
    total = parameter_count(teacher.model)
    least = smallest_pruned_count(teacher.model)
    rows = []
    for count in sorted({each for each in counts if least <= each <= total}):
        pruned = _pruned(teacher, count)
        teacher_trainer(
            pruned,
            teacher.dataset,
            compute,
            seed=tuning.seed,
            epochs=tuning.epochs,
            batch_size=tuning.batch_size,
            lr=tuning.lr,
            keep_sparsity=True,
        ).fit()
        pruned.eval()
        rows.append({"method": FINE_TUNED, **_size(pruned, total), **score(pruned)})
        on_done()
    return rows


def _pruned(teacher: Teacher, count: int) -> nn.Module:
    model = deepcopy(teacher.model).requires_grad_(True)
    prune_by_magnitude(model, count)
    return model


def _size(model: nn.Module, total: int) -> dict[str, object]:
    nonzeros = count_nonzeros(model)
    return {"nonzeros": nonzeros, "zeros": 1 - nonzeros / total}
