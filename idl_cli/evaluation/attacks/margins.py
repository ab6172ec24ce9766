"""What an attack makes as large as it can: functions of logits (b, K), one number a sample.

The cross-entropy saturates where a network is sure, and its gradient vanishes in float32. Margins
do not; divided by a difference of logits they do not depend on the scale of the logits either
(DLR: Croce and Hein, ICML 2020, arXiv 2003.01690, equations 6 and 7).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

AttackLoss = Callable[[Tensor, Tensor], Tensor]
"""(logits (b, K), labels (b,)) → (b,)."""


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Return ŷ_label − max over the other classes (b,): negative where the prediction is wrong."""
    return logits.gather(1, labels[:, None]).squeeze(1) - _others(logits, labels).amax(dim=1)


def class_margin(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return ŷ_label − ŷ_target (b,)."""
    both = logits.gather(1, torch.stack((labels, targets), dim=1))
    return both[:, 0] - both[:, 1]


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(logits, labels, reduction="none")


def _margin(logits: Tensor, labels: Tensor) -> Tensor:
    return -margins(logits, labels)


def _dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """The margin over the difference of the first and the third largest logit."""
    ordered = logits.sort(dim=1, descending=True).values
    spread = ordered[:, 0] - ordered[:, min(2, logits.shape[1] - 1)]
    return -margins(logits, labels) / (spread + torch.finfo(logits.dtype).tiny)


def _others(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.scatter(1, labels[:, None], -torch.inf)


LOSSES: Final[Mapping[str, AttackLoss]] = MappingProxyType(
    {"cross_entropy": _cross_entropy, "margin": _margin, "dlr": _dlr}
)
