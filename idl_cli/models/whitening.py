"""Principal components of a model's inputs, each of variance one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from idl_cli.errors import DataError

_FLAT: Final = 1e-10  # of the largest variance: what rounding makes of a direction without any


class Whitening(nn.Module):
    """v = Λ^(-1/2) Uᵀ(u - mean): u on its k directions of largest variance, scaled to variance one.

    Neighbouring pixels are nearly equal, so that the covariance of images has eigenvalues over many
    orders of magnitude and gradient steps on a matrix that reads them hardly move it along the
    small ones, which hold the detail. On whitened inputs all move alike (LeCun, Bottou, Orr,
    Müller, "Efficient BackProp", 1998, section 4.3; for fully connected networks on CIFAR-10: Lin,
    Memisevic, Konda, arXiv 1511.02580).

    The map is affine and fixed before training: a matrix W after it is the matrix W ``directions``
    of the inputs themselves. Until ``fit_`` it is NaN, and so is what is made of it.

    Args:
        inputs: p.
        components: k, 1 <= k <= p.
    """

    directions: Tensor
    offset: Tensor

    def __init__(self, inputs: int, components: int) -> None:
        super().__init__()
        self.register_buffer("directions", torch.full((components, inputs), math.nan))
        self.register_buffer("offset", torch.full((components,), math.nan))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return v (m, k) of inputs u (m, p)."""
        return functional.linear(inputs, self.directions, self.offset)

    @torch.no_grad()
    def fit_(self, batches: Iterable[Tensor]) -> None:
        """Take the directions from samples.

        A direction along which the samples do not vary becomes zero.

        Args:
            batches: training inputs (m, ...), any number of them.

        Raises:
            DataError: there are no samples, or they are not finite.
        """
        components, size = self.directions.shape
        count, total = 0, torch.zeros(size, dtype=torch.float64)
        shift: Tensor | None = None
        moment = torch.zeros(size, size, dtype=torch.float64)
        for batch in batches:
            flat = batch.flatten(1).cpu()
            # Moments about a sample near the mean: those about 0 would cancel.
            shift = flat.mean(0) if shift is None else shift
            centred = flat - shift
            count += len(flat)
            total += centred.double().sum(0)
            moment += centred.t() @ centred
        if shift is None or count == 0:
            raise DataError("the training part has no samples to take principal components from")
        mean = total / count
        covariance = moment / count - torch.outer(mean, mean)
        if not bool(covariance.isfinite().all()):
            raise DataError("the training inputs are not finite: they have no principal components")
        variances, vectors = torch.linalg.eigh(covariance)
        variances, vectors = variances.flip(0)[:components], vectors.flip(1)[:, :components]
        scale = torch.where(variances > _FLAT * variances[0], variances.rsqrt(), 0.0)
        # The sign of an eigenvector is a matter of rounding: its largest entry is positive here.
        largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))[0]
        directions = (vectors * (scale * largest.sign())).t()
        self.directions.copy_(directions)
        self.offset.copy_(-directions @ (mean + shift.double()))

    def unfold(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Return W ``directions`` (q, p) and W ``offset`` (q,): W (q, k) as it acts on u."""
        return matrix @ self.directions, matrix @ self.offset
