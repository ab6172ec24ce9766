"""Kept weights moved together towards the teacher's outputs; no labels are used.

The teacher can be asked about any input, so each step takes points between two samples (mixup,
Zhang et al., arXiv 1710.09412, with the teacher's own outputs there): few samples are then not
learnt by heart. Samples that are seen a few times only cannot be, and are hardly mixed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from idl_cli.distributed.group import Group
from idl_cli.errors import ConvergenceWarning
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.pruning.gradual import GradualSchedule
from idl_cli.sim.fit.fitted_model import FittedModel
from idl_cli.sim.fit.sparse.kept_weights import Adam, KeptWeights
from idl_cli.sim.fit.sparse.layered import LayeredModel
from idl_cli.sim.fit.sparse.layers import Layer
from idl_cli.sim.options import RefineLoss
from idl_cli.sim.states.layout import StateRecorder, batches_of_inputs
from idl_cli.sim.states.recording import Loader

BATCH = 128
MIXED = 0.5
"""Largest weight of the second sample in a point between two, where samples come back often."""
STEPS = 2000
"""Where the epochs are not given: about four over 60,000 samples."""
MOST_EPOCHS = 40


@dataclass(frozen=True)
class Refinement:
    """What a refinement did.

    Attributes:
        epochs: over the recorded samples.
        loss: ``kl`` (of the teacher's class probabilities) or ``mse`` (of its outputs).
        before: mean loss over the samples, of the layer-by-layer fit.
        after: the same after the refinement; where it was not lower, the fit was kept as it was.
    """

    epochs: int
    loss: str
    before: float
    after: float


def steps_of(samples: int, epochs: int | None) -> tuple[int, int]:
    """Epochs and, where all batches but the last are full, steps of a refinement.

    Args:
        samples: that it goes through.
        epochs: passes; None for ``STEPS`` steps, at most ``MOST_EPOCHS`` passes.
    """
    if epochs is None:
        epochs = min(MOST_EPOCHS, max(1, round(STEPS * BATCH / samples)))
    return epochs, epochs * math.ceil(samples / BATCH)


def refine(
    fitted: FittedModel,
    larger: Callable[[], FittedModel] | None,
    layers: Sequence[Layer],
    recorder: StateRecorder,
    loader: Loader,
    *,
    nonzeros: int,
    rows: int,
    samples: int | None,
    count: int,
    epochs: int | None,
    loss: RefineLoss,
    seed: int = 0,
    group: Group | None = None,
) -> tuple[FittedModel, Refinement]:
    """Adam on the difference of outputs; weights that are zero stay zero.

    Args:
        fitted: layer by layer, with as many weights as may be kept; left as it is.
        larger: makes the same with more weights, where Adam is to begin; those that cost the loss
            least go gradually. Where that ends no nearer than ``fitted``, Adam begins there; None
            to begin there at once.
        layers: of a feed-forward model, which is then computed by them; empty for another.
        recorder: of the teacher.
        loader: of the samples whose states were recorded.
        nonzeros: weights that may be left at the end.
        rows: that these are spread over.
        samples: how many samples of the loader.
        count: their number.
        epochs: as for ``steps_of``.
        loss: ``auto``: ``kl`` where the loader gives class labels beside its inputs, whose values
            are not looked at, ``mse`` elsewhere.
        seed: of the order of the samples.
        group: processes that hold the same models; the first one's answer is taken.

    Returns:
        The model where Adam ended, or ``fitted`` where that was better, with a warning; and what
        was done.
    """
    epochs, _ = steps_of(count, epochs)
    kind = chosen_loss(loss, loader, recorder.layout.output_dim)
    measure = _divergence if kind == "kl" else functional.mse_loss
    like = next(fitted.parameters())

    def mean_loss(model: Callable[[Tensor], Tensor]) -> float:
        total = 0.0
        with torch.no_grad():
            for inputs in batches_of_inputs(loader, samples):
                outputs = recorder.outputs(inputs).to(like)
                total += float(measure(model(inputs.flatten(1).to(like)), outputs)) * len(inputs)
        return total / count

    def descend(begin: FittedModel, forward: FittedModel | LayeredModel) -> None:
        generator = torch.Generator().manual_seed(seed)
        kept = KeptWeights.of(
            forward.parameters if isinstance(forward, LayeredModel) else tuple(forward.parameters())
        )
        values = kept.values()
        steps = epochs * sum(math.ceil(len(u) / BATCH) for u in batches_of_inputs(loader, samples))
        schedule = GradualSchedule(len(values), nonzeros, steps)
        adam, taken = Adam(steps, nonzeros / rows), 0
        for inputs in _epochs(loader, samples, epochs):
            asked = _between(inputs, MIXED * min(1.0, epochs / MOST_EPOCHS), generator)
            outputs = recorder.outputs(asked).to(like)
            flat = asked.flatten(1).to(like)
            for part in torch.split(torch.randperm(len(flat), generator=generator), BATCH):
                chosen = part.to(flat.device)
                with torch.enable_grad():
                    value = measure(forward(flat[chosen]), outputs[chosen])
                    slopes = torch.autograd.grad(value, kept.parameters, allow_unused=True)
                values = adam.step(values, kept.of_parameters(slopes))
                taken += 1
                left = schedule.nonzeros_at(taken)
                if left < len(values) and schedule.is_due(taken):
                    stay = adam.costliest(values, left)
                    kept.keep(stay)
                    adam.keep(stay)
                    values = values[stay]
                kept.set(values)
                if forward is begin:  # zeros below the blocks of another are all its constraint
                    begin.constrain_()
                    values = kept.values()
        if group is not None:
            for parameter in kept.parameters:
                group.broadcast_(parameter.detach())

    before = after = mean_loss(_layered(fitted, layers) or fitted)
    for make in (larger, partial(deepcopy, fitted)):
        if make is None:
            continue
        begin = make()
        layered = _layered(begin, layers)
        forward = begin if layered is None else layered
        descend(begin, forward)
        after = mean_loss(forward)
        if group is not None:
            before, after = group.broadcast_object((before, after))
        if after < before:
            if layered is not None:
                layered.write_back()
            return begin, Refinement(epochs, kind, before, after)
    warnings.warn(
        f"the refinement did not bring the outputs nearer to the teacher's (loss {before:.3g} "
        f"to {after:.3g}): the layer-by-layer fit is kept; set trainer.refine_epochs=0, or "
        "give it more samples",
        ConvergenceWarning,
        stacklevel=2,
    )
    return fitted, Refinement(epochs, kind, before, after)


def _epochs(loader: Loader, samples: int | None, epochs: int) -> Iterator[Tensor]:
    for _ in range(epochs):
        yield from batches_of_inputs(loader, samples)


def _layered(model: FittedModel, layers: Sequence[Layer]) -> LayeredModel | None:
    if not layers:
        return None
    assert isinstance(model, ImplicitModel)
    return LayeredModel(model, layers)


def _between(inputs: Tensor, largest: float, generator: torch.Generator) -> Tensor:
    """Points between each sample and another, which has at most the weight ``largest``."""
    other = inputs[torch.randperm(len(inputs), generator=generator).to(inputs.device)]
    share = largest * torch.rand(len(inputs), *[1] * (inputs.dim() - 1), generator=generator)
    return torch.lerp(inputs, other, share.to(inputs))


def _divergence(outputs: Tensor, teacher: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence from the teacher's class probabilities."""
    return functional.kl_div(
        outputs.log_softmax(dim=1),
        teacher.log_softmax(dim=1),
        log_target=True,
        reduction="batchmean",
    )


def chosen_loss(loss: RefineLoss, loader: Loader, outputs: int) -> str:
    """Return ``kl`` or ``mse``: what ``auto`` stands for with this loader and number of outputs."""
    if loss != "auto":
        return loss
    first = next(iter(loader))
    if isinstance(first, Tensor) or len(first) < 2 or outputs < 2:
        return "mse"
    return "mse" if first[1].is_floating_point() else "kl"
