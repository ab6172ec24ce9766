"""Kept weights moved together towards the teacher's outputs; no labels are used.

The teacher can be asked about any input, so each step takes points between two samples (mixup,
Zhang et al., arXiv 1710.09412, with the teacher's own outputs there): few samples are then not
learnt by heart. Samples that are seen a few times only cannot be, and are hardly mixed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from idl_cli.distributed.group import Group
from idl_cli.errors import ConvergenceWarning
from idl_cli.models.implicit import ImplicitModel
from idl_cli.sim.fit.sparse.layered import LayeredModel
from idl_cli.sim.fit.sparse.layers import Layer
from idl_cli.sim.options import RefineLoss
from idl_cli.sim.states.layout import StateRecorder, batches_of_inputs
from idl_cli.sim.states.recording import Loader

BATCH = 128
LARGEST_STEP = 3e-3
"""Of Adam, where it is largest."""
_RISE = 0.3
_MEMORY, _SQUARE_MEMORY, _EPS = 0.9, 0.999, 1e-8
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


def refine(
    model: ImplicitModel,
    layers: Sequence[Layer],
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
        layers: of a feed-forward model, which is then computed by them; empty for another.
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
    kind = chosen_loss(loss, loader, recorder.layout.output_dim)
    measure = _divergence if kind == "kl" else functional.mse_loss
    layered = LayeredModel(model, layers) if layers else None
    forward = model if layered is None else layered
    kept = _Kept.of(tuple(model.parameters()) if layered is None else layered.parameters)
    generator = torch.Generator().manual_seed(seed)

    def mean_loss() -> float:
        total = 0.0
        with torch.no_grad():
            for inputs in batches_of_inputs(loader, samples):
                outputs = recorder.outputs(inputs).to(model.B)
                total += float(measure(forward(inputs.flatten(1).to(model.B)), outputs)) * len(
                    inputs
                )
        return total / count

    before, begun = mean_loss(), kept.values()
    values = begun
    steps = epochs * sum(math.ceil(len(u) / BATCH) for u in batches_of_inputs(loader, samples))
    adam = _Adam(steps)
    for _ in range(epochs):
        for inputs in batches_of_inputs(loader, samples):
            asked = _between(inputs, MIXED * min(1.0, epochs / MOST_EPOCHS), generator)
            outputs = recorder.outputs(asked).to(model.B)
            flat = asked.flatten(1).to(model.B)
            for part in torch.split(torch.randperm(len(flat), generator=generator), BATCH):
                chosen = part.to(flat.device)
                with torch.enable_grad():
                    value = measure(forward(flat[chosen]), outputs[chosen])
                    slopes = torch.autograd.grad(value, kept.parameters, allow_unused=True)
                values = adam.step(values, kept.of_parameters(slopes))
                kept.set(values)
                if layered is None:  # zeros below the blocks of another are all its constraint
                    model.constrain_()
                    values = kept.values()
    if group is not None:
        group.broadcast_(values)
        kept.set(values)
    after = mean_loss()
    if not after < before:
        warnings.warn(
            f"the refinement did not bring the outputs nearer to the teacher's (loss {before:.3g} "
            f"to {after:.3g}): the layer-by-layer fit is kept; set trainer.refine_epochs=0, or "
            "give it more samples",
            ConvergenceWarning,
            stacklevel=2,
        )
        kept.set(begun)
    if layered is not None:
        layered.write_back()
    return Refinement(epochs, kind, before, after)


@dataclass(frozen=True, eq=False)
class _Kept:
    """The weights that are not zero, as one vector: all else of a model stays as it is.

    Attributes:
        parameters: of the model.
        places: of each, the flat indices of its non-zeros.
    """

    parameters: Sequence[Tensor]
    places: Sequence[Tensor]

    @classmethod
    def of(cls, parameters: Sequence[Tensor]) -> _Kept:
        return cls(parameters, [p.detach().flatten().nonzero()[:, 0] for p in parameters])

    def values(self) -> Tensor:
        return self.of_parameters([parameter.detach() for parameter in self.parameters])

    def of_parameters(self, tensors: Sequence[Tensor | None]) -> Tensor:
        """The entries of such places in tensors of the parameters' shapes; zeros where None."""
        like = self.parameters[0].detach()
        pairs = zip(tensors, self.places, strict=True)
        return torch.cat(
            [
                like.new_zeros(len(i)) if t is None else t.reshape(-1).index_select(0, i)
                for t, i in pairs
            ]
        )

    @torch.no_grad()
    def set(self, values: Tensor) -> None:
        parts = torch.split(values, [len(place) for place in self.places])
        for parameter, place, part in zip(self.parameters, self.places, parts, strict=True):
            parameter.view(-1).scatter_(0, place, part)


class _Adam:
    """Adam (Kingma and Ba, arXiv 1412.6980) on one vector, its step rising and falling once.

    One-cycle (Smith and Topin, arXiv 1708.07120): cosines up to ``LARGEST_STEP`` at three tenths of
    the steps and down again. torch's own loads its compiler first, which takes longer than this.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._taken = 0
        self._mean: Tensor | float = 0.0
        self._square: Tensor | float = 0.0

    def step(self, values: Tensor, slope: Tensor) -> Tensor:
        """The values after a step."""
        rise = _RISE * self._steps
        way = (self._taken - rise) / (rise if self._taken < rise else self._steps - rise)
        rate = LARGEST_STEP * 0.5 * (1 + math.cos(math.pi * way))
        self._taken += 1
        self._mean = _MEMORY * self._mean + (1 - _MEMORY) * slope
        self._square = _SQUARE_MEMORY * self._square + (1 - _SQUARE_MEMORY) * slope.square()
        mean = self._mean / (1 - _MEMORY**self._taken)
        square = self._square / (1 - _SQUARE_MEMORY**self._taken)
        return values - rate * mean / (square.sqrt() + _EPS)


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
