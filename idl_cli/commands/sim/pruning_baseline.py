"""The baselines beside a sparse implicit model: its teacher, pruned to as many weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from torch import Tensor, nn

from idl_cli.assembly.compute import Compute
from idl_cli.assembly.fine_tuning import FineTuning, fine_tune
from idl_cli.assembly.teacher import Teacher
from idl_cli.commands.sim.settings import SimSettings
from idl_cli.data.dataset import Dataset
from idl_cli.errors import IgnoredOptionWarning, UnsupportedModelError
from idl_cli.models.parameter_count import parameter_count
from idl_cli.models.pruning import count_nonzeros, prune_by_magnitude, smallest_pruned_count
from idl_cli.models.pruning.alps import alps
from idl_cli.models.pruning.gradual import GradualPruning
from idl_cli.models.pruning.layerwise import LayerPruner, prune_layer_by_layer
from idl_cli.models.pruning.sparsegpt import sparsegpt
from idl_cli.models.pruning.wanda import wanda

Score: TypeAlias = Callable[[nn.Module], dict[str, float]]
Pruner: TypeAlias = Callable[[nn.Module, int, Iterable[Tensor]], None]
"""(network, non-zeros to leave, inputs) → pruned in place; no labels are used."""

PRUNED: Final = "pruned"
FINE_TUNED: Final = "pruned, fine-tuned"
GRADUAL: Final = "gradual"
"""The baseline that has no network before its training."""


def _layer_by_layer(prune: LayerPruner) -> Pruner:
    return lambda model, nonzeros, inputs: prune_layer_by_layer(model, nonzeros, inputs, prune)


PRUNERS: Final[Mapping[str, Pruner]] = MappingProxyType(
    {
        "magnitude": lambda model, nonzeros, _: prune_by_magnitude(model, nonzeros),
        "wanda": _layer_by_layer(wanda),
        "sparsegpt": _layer_by_layer(sparsegpt),
        "alps": _layer_by_layer(alps),
    }
)
"""The baselines of one shot, by what ``trainer.baselines`` calls them."""

LABELS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "magnitude": PRUNED,
        GRADUAL: "gradually pruned",
        "wanda": "Wanda",
        "sparsegpt": "SparseGPT",
        "alps": "ALPS",
    }
)
"""What tables and plots call them."""


def pruned(
    network: nn.Module, baseline: str, nonzeros: int, inputs: Iterable[Tensor] = ()
) -> nn.Module:
    """A pruned copy of a network, without training.

    Args:
        network: left as it is.
        baseline: a key of ``PRUNERS``.
        nonzeros: weights and biases left.
        inputs: batches as the network takes them; gone through once a layer.

    Raises:
        UnsupportedModelError: the baseline cannot prune such a network.
    """
    model = deepcopy(network).requires_grad_(True).eval()
    PRUNERS[baseline](model, nonzeros, inputs)
    return model


def pruned_gradually(
    network: nn.Module, nonzeros: int, dataset: Dataset, tuning: FineTuning, compute: Compute
) -> nn.Module:
    """A copy that was pruned by magnitude while it was trained on; labels are used."""
    model = deepcopy(network).requires_grad_(True)
    fine_tune(
        model,
        dataset,
        tuning,
        compute,
        prune=lambda steps: GradualPruning(model, nonzeros, steps=steps).after_step,
    )
    return model


def pruning_rows(
    teacher: Teacher,
    path: Sequence[Mapping[str, Any]],
    settings: SimSettings,
    score: Score,
    compute: Compute,
    inputs: Iterable[Tensor],
    on_done: Callable[[], None],
) -> list[dict[str, Any]]:
    """The teacher pruned by each baseline, and fine-tuned, at the shares asked for.

    By magnitude, which costs nothing, at the path's sizes too.

    Args:
        teacher: left as it is.
        path: rows of the path.
        settings: of the run.
        score: figures of a network.
        compute: device and dtype.
        inputs: batches that layers are reconstructed on.
        on_done: called after each baseline and each fine-tuning.
    """
    trainer = settings.trainer
    total = parameter_count(teacher.model)
    levels = [round((1 - zeros) * total) for zeros in trainer["prune_zeros"]]
    sizes = [int(row["nonzeros"]) for row in path]
    tuning = FineTuning.of(trainer["prune_epochs"], settings.teacher, settings.seed)
    rows: list[dict[str, Any]] = []
    for baseline in trainer["baselines"]:
        counts = [*levels, *sizes] if baseline == "magnitude" else levels
        try:
            if baseline != GRADUAL:
                rows += one_shot_rows(teacher, counts, score, baseline=baseline, inputs=inputs)
            on_done()
            if tuning.epochs:
                rows += fine_tuned_rows(
                    teacher,
                    levels,
                    score,
                    tuning,
                    compute,
                    on_done,
                    baseline=baseline,
                    inputs=inputs,
                )
        except UnsupportedModelError as error:
            warnings.warn(
                f"trainer.baselines: {baseline} is left out: {error}",
                IgnoredOptionWarning,
                stacklevel=2,
            )
    return rows


def one_shot_rows(
    teacher: Teacher,
    counts: Sequence[int],
    score: Score,
    *,
    baseline: str = "magnitude",
    inputs: Iterable[Tensor] = (),
) -> list[dict[str, Any]]:
    """Prune copies of the teacher to given numbers of non-zeros, and measure them as they are.

    Args:
        teacher: left as it is.
        counts: weights and biases left; numbers no copy can have are left out.
        score: figures of a network.
        baseline: a key of ``PRUNERS``.
        inputs: see ``pruned``.

    Raises:
        UnsupportedModelError: the baseline cannot prune the teacher.
    """
    rows = []
    for count in _possible(teacher, counts):
        model = pruned(teacher.model, baseline, count, inputs)
        rows.append(_row(LABELS[baseline], model, score, labels=False))
    return rows


def fine_tuned_rows(
    teacher: Teacher,
    counts: Sequence[int],
    score: Score,
    tuning: FineTuning,
    compute: Compute,
    on_done: Callable[[], None],
    *,
    baseline: str = "magnitude",
    inputs: Iterable[Tensor] = (),
) -> list[dict[str, Any]]:
    """Prune, train on with the zeros kept and the data of the teacher's training, and measure.

    Args:
        teacher: left as it is.
        counts: as for ``one_shot_rows``.
        score: figures of a network.
        tuning: how it is trained.
        compute: device and dtype.
        on_done: called after each.
        baseline: a key of ``LABELS``.
        inputs: see ``pruned``.

    Raises:
        UnsupportedModelError: the baseline cannot prune the teacher.
    """
    name = LABELS[baseline] if baseline == GRADUAL else f"{LABELS[baseline]}, fine-tuned"
    rows = []
    for count in _possible(teacher, counts):
        if baseline == GRADUAL:
            model = pruned_gradually(teacher.model, count, teacher.dataset, tuning, compute)
        else:
            model = pruned(teacher.model, baseline, count, inputs)
            fine_tune(model, teacher.dataset, tuning, compute)
        rows.append(_row(name, model, score, labels=True))
        on_done()
    return rows


def _possible(teacher: Teacher, counts: Sequence[int]) -> list[int]:
    least, total = smallest_pruned_count(teacher.model), parameter_count(teacher.model)
    return sorted({each for each in counts if least <= each <= total})


def _row(method: str, model: nn.Module, score: Score, *, labels: bool) -> dict[str, Any]:
    nonzeros = count_nonzeros(model)
    return {
        "method": method,
        "nonzeros": nonzeros,
        "zeros": 1 - nonzeros / parameter_count(model),
        "labels": labels,
        **score(model),
    }
