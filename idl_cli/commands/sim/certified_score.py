"""How much of a part is certified: what a λ can be chosen by where certificates matter."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Final

import torch
from torch import nn

from idl_cli.certificates.certification import Certifier
from idl_cli.certificates.equation import Equation
from idl_cli.certificates.problem import Judged
from idl_cli.certificates.region import InputUnit
from idl_cli.data.input_unit import valid_inputs
from idl_cli.data.preprocessing import Preprocessing
from idl_cli.data.split import Split
from idl_cli.errors import NonFiniteError, UnsupportedModelError

_RADIUS_STEPS: Final = 4


class CertifiedScore:
    """Certified accuracy and radii on the first samples of a part, as ``idl certify`` has them.

    In l∞, with inputs kept in [0, 1] where the data are shares of a largest value.

    Args:
        preprocessing: of the model's inputs; says what ε is in their unit.
        epsilon: ε in the data's own unit.
        samples: how many of a part, the first ones; None for all.
    """

    def __init__(self, preprocessing: Preprocessing, epsilon: float, samples: int | None) -> None:
        known = valid_inputs(preprocessing) is not None
        self._unit = InputUnit.of(preprocessing, (0.0, 1.0) if known else None)
        self._divisor = preprocessing.divisor
        self._epsilon, self._samples = epsilon, samples

    def accuracy(self, model: nn.Module, part: Split) -> float:
        """The share that is right at every input within ε; NaN of a model that is not judged."""
        return self._judge(model, part, steps=0).get("certified_accuracy", math.nan)

    def figures(self, model: nn.Module, part: Split) -> dict[str, float]:
        """The same, and the mean certified radius, 0 of samples that are wrong; or nothing.

        Nothing is told of networks that ``idl certify`` knows no bounds of, such as some teachers.
        """
        return self._judge(model, part, steps=_RADIUS_STEPS)

    @torch.no_grad()
    def _judge(self, model: nn.Module, part: Split, steps: int) -> dict[str, float]:
        try:
            judged = Judged.of(Equation.of(deepcopy(model).cpu()))
        except (UnsupportedModelError, NonFiniteError):
            return {}
        certifier = Certifier(judged, self._unit)
        count = len(part) if self._samples is None else min(self._samples, len(part))
        values = part.inputs[:count].double().flatten(1).cpu() / self._divisor
        classes, right, radii = part.targets[:count].cpu(), 0, 0.0
        for rows in certifier.batches(count):
            batch = values[rows], classes[rows]
            epsilon = torch.full_like(values[rows, 0], self._epsilon)
            wrong = judged.equation.model(self._unit.inputs(batch[0])).argmax(1) != batch[1]
            certified = certifier.verdicts(*batch, epsilon, wrong).certified
            right += int(certified.sum())
            if steps:
                low = certifier.linear_radii("sensitivity", *batch)
                low = torch.maximum(low, epsilon.where(certified, 0.0))
                high = epsilon.where(~certified & (low < epsilon), torch.inf)
                radii += float(certifier.radii(*batch, low, high, steps).sum())
        found = {"certified_accuracy": right / count}
        return found | {"certified_radius_mean": radii / count} if steps else found
