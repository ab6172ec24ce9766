"""Residual networks for small images (He et al., 2016, section 4.2), as teachers."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn
from torch.nn import functional

from idl_cli.errors import ArgumentError, ShapeError
from idl_cli.models.explicit import ExplicitNetwork


class _Block(nn.Module):
    """Two convolutions, each normalised, and what came in added."""

    def __init__(self, depth: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(depth, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = nn.Sequential()
        if stride != 1 or depth != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(depth, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = functional.relu(self.bn1(self.conv1(inputs)))
        return functional.relu(self.bn2(self.conv2(hidden)) + self.downsample(inputs))


class ResNet20(ExplicitNetwork):
    """The 20-layer residual network for images of 32 × 32, in the names of torchvision's.

    Three groups of three blocks with 16, 32 and 64 channels, the later groups begin with stride 2
    and a 1 × 1 convolution past the block; global average, one linear layer (He et al., "Deep
    Residual Learning for Image Recognition", CVPR 2016, section 4.2).

    Args:
        input_shape: (channels, height, width) of an image, at least 4 × 4.
        output_dim: classes, or targets of a regression, q.

    Raises:
        ArgumentError: inputs are no images.
    """

    def __init__(self, input_shape: Sequence[int], output_dim: int) -> None:
        super().__init__()
        if len(input_shape) != 3:
            raise ArgumentError(
                f"input_shape={list(input_shape)} is no image (channels, height, width); choose "
                "the mlp for other inputs"
            )
        self.input_shape, self.output_dim = tuple(input_shape), output_dim
        self.conv1 = nn.Conv2d(input_shape[0], 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._group(16, 16, 1)
        self.layer2 = self._group(16, 32, 2)
        self.layer3 = self._group(32, 64, 2)
        self.fc = nn.Linear(64, output_dim)

    @staticmethod
    def _group(depth: int, channels: int, stride: int) -> nn.Sequential:
        first = _Block(depth, channels, stride)
        return nn.Sequential(first, *(_Block(channels, channels, 1) for _ in range(2)))

    @property
    def input_dim(self) -> int:
        """Entries of one image, p."""
        return prod(self.input_shape)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (m, output_dim) for images (m, *input_shape), flattened ones included."""
        if prod(inputs.shape[1:]) != self.input_dim:
            raise ShapeError(
                f"inputs of shape {tuple(inputs.shape)} are no images of shape {self.input_shape}"
            )
        images = inputs.reshape(-1, *self.input_shape)
        hidden = functional.relu(self.bn1(self.conv1(images)))
        hidden = self.layer3(self.layer2(self.layer1(hidden)))
        outputs: Tensor = self.fc(hidden.mean(dim=(2, 3)))
        return outputs
