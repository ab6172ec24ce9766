"""What is read out of feature maps: averages over fields, of the maps or of a layer above them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from idl_cli.equilibrium.activations import Activation
from idl_cli.equilibrium.operators import maps_of, rows_of
from idl_cli.errors import UnsupportedModelError
from idl_cli.models.parametrizations.convolution_linf import Scale

_KERNEL: Final = 3
_MARGIN: Final = 1e-9  # of the bound on rows, for rounding


@dataclass(frozen=True)
class Pooling:
    """Averages of the maps of some scales over fields of theirs.

    Attributes:
        scales: of the maps; the states are theirs side by side, each pixel by pixel.
        pool: fields a side; a scale with fewer pixels is read pixel by pixel.
    """

    scales: tuple[Scale, ...]
    pool: int

    @property
    def features(self) -> int:
        """Number of averages a sample."""
        return sum(
            scale.channels * min(self.pool, scale.height) * min(self.pool, scale.width)
            for scale in self.scales
        )

    def maps(self, states: Tensor) -> list[Tensor]:
        """Return states (m, n) as maps (m, c, height, width), a tensor a scale."""
        parts = states.split_with_sizes([scale.states for scale in self.scales], dim=1)
        return [maps_of(part, scale.image) for part, scale in zip(parts, self.scales, strict=True)]

    def __call__(self, states: Tensor) -> Tensor:
        """Return the averages (m, features) of states (m, n), all scales in a row."""
        averages = []
        for maps, scale in zip(self.maps(states), self.scales, strict=True):
            fields = min(self.pool, scale.height), min(self.pool, scale.width)
            averages.append(functional.adaptive_avg_pool2d(maps, fields).flatten(1))
        return torch.cat(averages, dim=1)


class ReadoutLayer(nn.Module):
    """z = φ(N(W∗x)): one convolution of every scale's maps, outside of the equilibrium.

    Its maps are added to nothing and feed nothing back, so what keeps the equilibrium well-posed
    does not concern W. N is batch normalisation, with a mean and a deviation a channel over the
    batch and its pixels in training, and running ones after it (Ioffe and Szegedy, arXiv
    1502.03167): it is affine then, and the whole of W and N one convolution with offsets.

    Args:
        scales: of the maps x; a scale of at least twice ``pool`` pixels a side is halved.
        channels: maps of z of every scale.
        pool: fields a side that will be read of z.
        activation: φ.
    """

    def __init__(
        self, scales: Sequence[Scale], channels: int, pool: int, activation: Activation
    ) -> None:
        super().__init__()
        self._activation = activation
        strides = [2 if min(scale.height, scale.width) >= 2 * pool else 1 for scale in scales]
        self.scales = tuple(
            Scale(channels, -(-scale.height // stride), -(-scale.width // stride))
            for scale, stride in zip(scales, strides, strict=True)
        )
        self.convolutions = nn.ModuleList(
            nn.Conv2d(
                scale.channels, channels, _KERNEL, stride=stride, padding=_KERNEL // 2, bias=False
            )
            for scale, stride in zip(scales, strides, strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in scales)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the kernels anew from torch's global generator, uniformly (He et al. 2015)."""
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            assert isinstance(convolution, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            nn.init.kaiming_uniform_(convolution.weight, nonlinearity="relu")
            norm.reset_parameters()

    @property
    def states(self) -> int:
        """Number of pixels of z."""
        return sum(scale.states for scale in self.scales)

    def inflow(self, maps: Sequence[Tensor]) -> Tensor:
        """Return N(W∗x) of the maps of all scales, (m, states)."""
        return torch.cat(
            [
                rows_of(norm(convolution(each)))
                for each, convolution, norm in zip(maps, self.convolutions, self.norms, strict=True)
            ],
            dim=1,
        )

    def matrix(self, states: Pooling, bound: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return W (states of z, n), offsets and scale (states of z,): scale·z = φ(Wx + offsets).

        Args:
            states: how x is made of maps.
            bound: largest l1 norm of a row of W. Rows beyond it are scaled down to it, which a
                positively homogeneous φ passes on; the others have a scale of 1.

        Raises:
            UnsupportedModelError: a row is beyond it, and φ is not positively homogeneous.
        """
        like = next(self.parameters())
        n = sum(scale.states for scale in states.scales)
        offset = self.inflow(states.maps(like.new_zeros(1, n)))
        eye = torch.eye(n, dtype=like.dtype, device=like.device)
        weight = (self.inflow(states.maps(eye)) - offset).t()
        norms = weight.abs().sum(dim=1)
        scale = (bound * (1 - _MARGIN) / norms).clamp(max=1)
        if float(scale.min()) < 1 and not self._activation.positively_homogeneous:
            raise UnsupportedModelError(
                f"the read-out layer's largest row has an l1 norm of {float(norms.max()):.3g}, "
                f"above kappa={bound:g}, and activation={self._activation.name} is not "
                "positively homogeneous, so that it can't be scaled down; relu can"
            )
        return weight * scale[:, None], offset[0] * scale, scale

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return z (m, states) of the maps of all scales."""
        return self._activation.function(self.inflow(maps))
