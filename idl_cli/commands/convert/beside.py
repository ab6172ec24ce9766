"""A model and the network it was made of, side by side: how far apart, how long each takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class Differences:
    """What was found so far.

    Attributes:
        largest: largest |difference| of an output.
        scale: largest |output| of the network, at least 1.
        agreeing: samples whose largest output is the same one.
        samples: compared.
        seconds_network: wall-clock time of the network.
        seconds_model: wall-clock time of the model.
    """

    largest: float = 0.0
    scale: float = 1.0
    agreeing: int = 0
    samples: int = 0
    seconds_network: float = 0.0
    seconds_model: float = 0.0


class Beside(nn.Module):
    """Predicts as the model does, and compares with the network on the way.

    Args:
        model: whose outputs are returned.
        network: (m, *input_shape) to the outputs it should have.
        input_shape: of one sample, as the network takes it.
    """

    def __init__(
        self, model: nn.Module, network: Callable[[Tensor], Tensor], input_shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.model = model
        self.found = Differences()
        self._network = [network]  # no part of this module
        self._input_shape = input_shape

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (m, q) of the model."""
        begin = time.perf_counter()
        outputs: Tensor = self.model(inputs)
        between = time.perf_counter()
        expected = self._network[0](inputs.reshape(len(inputs), *self._input_shape)).flatten(1)
        end = time.perf_counter()
        found = self.found
        apart = float((outputs - expected).abs().nan_to_num(nan=torch.inf).max())
        found.largest = max(found.largest, apart)
        found.scale = max(found.scale, float(expected.abs().max()))
        found.agreeing += int((outputs.argmax(1) == expected.argmax(1)).sum())
        found.samples += len(inputs)
        found.seconds_model += between - begin
        found.seconds_network += end - between
        return outputs
