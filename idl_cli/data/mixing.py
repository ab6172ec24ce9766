"""Samples mixed in pairs, their classes in the same shares: mixup and CutMix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor

from idl_cli.data.randomness import Purpose, random_permutation
from idl_cli.data.synthetic.distributions import Numbers, uniform
from idl_cli.data.task import Task
from idl_cli.errors import ConfigError


@dataclass(frozen=True)
class Mixing:
    """Mixes every sample of a batch with a partner, another sample of the batch or itself.

    - mixup (Zhang et al., ICLR 2018, arXiv 1710.09412): λu + (1-λ)u', classes in the shares λ and
      1-λ.
    - CutMix (Yun et al., ICCV 2019, arXiv 1905.04899): a rectangle of √(1-λ) times the sides, its
      middle anywhere in the image, is the partner's; classes in the shares of the pixels.

    λ ~ Beta(α, α), of each pair its own. With both, every sample has one of them, as a fair coin
    falls. All numbers depend on the key and the place in the batch alone: a batch mixes alike
    however often it is drawn, and on however many ranks.

    Args:
        classes: K.
        mixup: α of mixup, 0 for none of it.
        cutmix: α of CutMix, 0 for none of it; inputs are then images.
    """

    classes: int
    mixup: float = 0.0
    cutmix: float = 0.0

    def __call__(
        self, inputs: Tensor, targets: Tensor, key: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Return a mixed batch.

        Args:
            inputs: a whole batch of model inputs (b, *input_shape), for CutMix (b, c, h, w).
            targets: classes (b,), int64.
            key: (seed, epoch, batch), which fixes every random number.

        Returns:
            Inputs of the same shape, and probabilities of the classes (b, K) of their dtype.
        """
        count = len(inputs)
        partners = torch.from_numpy(random_permutation(count, Purpose.PARTNERS, *key))
        coin, quantile, *middle = uniform(4 * count, 0, 1, Purpose.MIXING, *key).reshape(4, count)
        cuts = coin < (0.5 if self.mixup else 1.0) if self.cutmix else np.zeros(count, bool)
        alpha = np.where(cuts, self.cutmix, self.mixup)
        own = torch.from_numpy(betaincinv(alpha, alpha, quantile))
        weights = own.reshape(-1, *(1,) * (inputs.ndim - 1))
        if self.cutmix:
            outside = _outside_rectangle(1 - own, middle, inputs.shape[-2:])
            cut = torch.from_numpy(cuts)
            own = torch.where(cut, outside.double().mean(dim=(-2, -1)), own)
            weights = torch.where(cut[:, None, None], outside.double(), weights[:, 0])[:, None]
        partners, own = partners.to(inputs.device), own.to(inputs.device)
        mixed = torch.lerp(inputs[partners], inputs, weights.to(inputs))
        probabilities = torch.zeros(count, self.classes, dtype=own.dtype, device=own.device)
        probabilities.scatter_add_(1, targets[:, None], own[:, None])
        probabilities.scatter_add_(1, targets[partners, None], 1 - own[:, None])
        return mixed, probabilities.to(inputs.dtype)


def _outside_rectangle(share: Tensor, middle: Sequence[Numbers], sides: Sequence[int]) -> Tensor:
    """Return which pixels (b, h, w) lie outside a rectangle of this share (b,) of the image."""
    outside = []
    for side, position in zip(sides, middle, strict=True):
        length = (share.sqrt() * side).floor()
        start = torch.from_numpy(position * side).floor() - (length / 2).floor()
        place = torch.arange(side) - start[:, None]
        outside.append((place < 0) | (place >= length[:, None]))
    return outside[0][:, :, None] | outside[1][:, None, :]


def make_mixing(task: Task, *, mixup: float, cutmix: float) -> Mixing | None:
    """Return what ``trainer.mixup`` and ``trainer.cutmix`` ask for, None for nothing.

    Args:
        task: what is predicted from what.
        mixup: α of mixup.
        cutmix: α of CutMix.

    Raises:
        ConfigError: such samples cannot be mixed.
    """
    if not (mixup or cutmix):
        return None
    problem = None
    if task.kind != "classification":
        problem = "the data set is a regression, whose targets have no shares of classes"
    elif task.sequence:
        problem = "the data set holds sequences, and a mixture of two is none of its kind"
    elif cutmix and len(task.input_shape) != 3:
        problem = "cuts rectangles out of images, and the data set has none"
    if problem is not None:
        key, value = ("cutmix", cutmix) if cutmix else ("mixup", mixup)
        raise ConfigError([f"trainer.{key}={value:g}: {problem}; set it to 0"])
    return Mixing(task.output_dim, mixup, cutmix)
