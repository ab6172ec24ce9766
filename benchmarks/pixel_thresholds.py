"""A network whose first layer tells dark pixels from bright ones: a start for certified training.

A box of half width ε around a pixel near 0 or 1 is left with nothing of its width by
v = min(max((u − t)/(1 − 2t), 0), 1) with t > ε. A first layer of one such unit a pixel (ReLU6 of
6v) takes away most of what an attacker can do before any weights add it up; trained from random
weights, a network does not find it in a few epochs.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import nn

from idl_cli.models.sequence_baselines import MatchedMLP
from idl_cli.run import RunDirectory

PIXELS, CLASSES, HIDDEN = 784, 10, 200
OPTIONS = (
    "model=mlp",
    f"model.hidden_dims=[{PIXELS},{HIDDEN}]",
    "model.activation=relu6",
)
"""The architecture, as keys of ``idl train``."""


def save_start(folder: Path, threshold: float) -> None:
    """Leave the network as a run in a folder, for ``model.init_run``.

    Args:
        folder: new, or one that this has made.
        threshold: t, in (0, 1/2).
    """
    if (folder / "model.json").is_file():
        return
    torch.manual_seed(0)
    network = MatchedMLP(PIXELS, CLASSES, hidden_dims=(PIXELS, HIDDEN), activation="relu6")
    first, hidden, last = (layer for layer in network.layers if isinstance(layer, nn.Linear))
    steepness = 6 / (1 - 2 * threshold)
    with torch.no_grad():
        first.weight.copy_(steepness * torch.eye(PIXELS))
        first.bias.fill_(-steepness * threshold)
        # Boxes keep their width on the way (Shi et al. 2021, arXiv 2103.17268), inputs being 0 … 6.
        for layer, unit in ((hidden, 6.0), (last, 1.0)):
            layer.weight.normal_(std=math.sqrt(2 * math.pi) / layer.in_features / unit)
            layer.bias.zero_()
    with RunDirectory(folder, command="train") as run:
        run.save_model(network, preprocessing=None, task=None, name="mlp", group="model")
