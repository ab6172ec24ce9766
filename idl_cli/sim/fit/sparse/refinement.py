"""Kept weights moved together towards the teacher's outputs; no labels are used.

The teacher can be asked about any input, so each step takes points between two samples (mixup,
Zhang et al., arXiv 1710.09412, with the teacher's own outputs there): few samples are then not
learnt by heart.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from idl_cli.distributed.group import Group
from idl_cli.errors import ConvergenceWarning
from idl_cli.models.implicit import ImplicitModel
from idl_cli.sim.options import RefineLoss
from idl_cli.sim.states.layout import StateRecorder, batches_of_inputs
from idl_cli.sim.states.recording import Loader

BATCH = 128
LARGEST_STEP = 3e-3
"""Of Adam, reached after three tenths of the steps (one-cycle)."""
MIXED = 0.5
"""Largest weight of the second sample in a point between two."""
STEPS = 1500
"""Where the epochs are not given: about three over 60,000 samples."""
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


def refine(
    model: ImplicitModel,
    forward: Callable[[Tensor], Tensor],
    recorder: StateRecorder,
    loader: Loader,
    *,
    samples: int | None,
    count: int,
    epochs: int | None,
    loss: RefineLoss,
    seed: int = 0,
    group: Group | None = None,
) -> Refinement:
    """Adam on the difference of outputs; weights that are zero stay zero.

    Args:
        model: changed in place.
        forward: its outputs (m, q) of inputs (m, p).
        recorder: of the teacher.
        loader: of the samples whose states were recorded.
        samples: how many of them.
        count: their number.
        epochs: passes; None for ``STEPS`` steps, at most ``MOST_EPOCHS`` passes.
        loss: ``auto``: ``kl`` where the loader gives class labels beside its inputs, whose values
            are not looked at, ``mse`` elsewhere.
        seed: of the order of the samples.
        group: processes that hold the same model; the first one's answer is taken.
    """
    if epochs is None:
        epochs = min(MOST_EPOCHS, max(1, round(STEPS * BATCH / count)))
    chosen = _chosen_loss(loss, loader, recorder.layout.output_dim)
    measure = _divergence if chosen == "kl" else functional.mse_loss
    parameters = list(model.parameters())
    generator = torch.Generator().manual_seed(seed)

    def pairs(*, mixed: bool) -> Iterator[tuple[Tensor, Tensor]]:
        for inputs in batches_of_inputs(loader, samples):
            asked = _between(inputs, generator) if mixed else inputs
            batch = recorder.record(asked)
            yield asked.flatten(1).to(model.B), batch.outputs.to(model.B)

    def mean_loss() -> float:
        with torch.no_grad():
            sums = [float(measure(forward(u), y)) * len(u) for u, y in pairs(mixed=False)]
        return sum(sums) / count

    before = mean_loss()
    kept = [parameter.detach().clone() for parameter in parameters]
    masks = [parameter.detach() != 0 for parameter in parameters]
    optimizer = torch.optim.Adam(parameters, lr=LARGEST_STEP)
    steps = epochs * sum(math.ceil(len(u) / BATCH) for u in batches_of_inputs(loader, samples))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LARGEST_STEP, total_steps=steps)
    with torch.enable_grad():
        for _ in range(epochs):
            for inputs, outputs in pairs(mixed=True):
                order = torch.randperm(len(inputs), generator=generator).to(inputs.device)
                for part in torch.split(order, BATCH):
                    loss_here = measure(forward(inputs[part]), outputs[part])
                    slopes = torch.autograd.grad(loss_here, parameters, allow_unused=True)
                    for parameter, slope, mask in zip(parameters, slopes, masks, strict=True):
                        parameter.grad = None if slope is None else slope * mask
                    optimizer.step()
                    model.constrain_()
                    schedule.step()
    if group is not None:
        for parameter in parameters:
            group.broadcast_(parameter.data)
    after = mean_loss()
    if not after < before:
        warnings.warn(
            f"the refinement did not bring the outputs nearer to the teacher's (loss {before:.3g} "
            f"to {after:.3g}): the layer-by-layer fit is kept; set trainer.refine_epochs=0, or "
            "give it more samples",
            ConvergenceWarning,
            stacklevel=2,
        )
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)
    return Refinement(epochs, chosen, before, after)


def _between(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Points between each sample and another; inputs that are no real numbers stay as they are."""
    if not inputs.is_floating_point():
        return inputs
    other = inputs[torch.randperm(len(inputs), generator=generator).to(inputs.device)]
    share = MIXED * torch.rand(len(inputs), *[1] * (inputs.dim() - 1), generator=generator)
    return torch.lerp(inputs, other, share.to(inputs))


def _divergence(outputs: Tensor, teacher: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence from the teacher's class probabilities."""
    return functional.kl_div(
        outputs.log_softmax(dim=1),
        teacher.log_softmax(dim=1),
        log_target=True,
        reduction="batchmean",
    )


def _chosen_loss(loss: RefineLoss, loader: Loader, outputs: int) -> str:
    if loss != "auto":
        return loss
    first = next(iter(loader))
    if isinstance(first, Tensor) or len(first) < 2 or outputs < 2:
        return "mse"
    return "mse" if first[1].is_floating_point() else "kl"
