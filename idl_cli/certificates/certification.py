"""Which samples are certified at which radius, by the cheapest bound that decides each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor

from idl_cli.certificates.bounds.base import Bound
from idl_cli.certificates.bounds.complete import Complete
from idl_cli.certificates.bounds.dual import Dual
from idl_cli.certificates.bounds.interval import interval
from idl_cli.certificates.bounds.norm import norm
from idl_cli.certificates.bounds.relaxation import relaxation
from idl_cli.certificates.bounds.sensitivity import Sensitivity
from idl_cli.certificates.branching import ROUNDING
from idl_cli.certificates.options import CertifyOptions, MethodName, NormName
from idl_cli.certificates.problem import Judged, Problem
from idl_cli.certificates.region import InputUnit
from idl_cli.evaluation.attacks.euclidean import inside
from idl_cli.evaluation.attacks.margins import margins as margins_of

METHODS: Final = ("norm", "sensitivity", "interval", "relaxation", "dual", "complete")
"""The bounds, cheapest first."""

_COSTLY: Final = ("dual", "complete")

UNDECIDED: Final = -1
_BLOCK: Final = 1 << 21  # entries of the differences of outputs of a batch
_LARGEST_BATCH: Final = 256
_DOUBLINGS: Final = 60


@dataclass(frozen=True)
class Verdicts:
    """Of m samples at one ε.

    Attributes:
        decided_by: index in ``METHODS`` of the bound that certified a sample, else ``UNDECIDED``.
        margin: the largest lower bound found of the smallest margin (m,); NaN where none was.
        reached: the smallest margin that branching met at an input of the region (m,); NaN where
            it was not asked, or tried none.
        broken: whether the class is left there, rounding set aside (m,).
        seconds: processor time of the batch, over its samples (m,).
    """

    decided_by: Tensor
    margin: Tensor
    reached: Tensor
    broken: Tensor
    seconds: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Verdicts]) -> Verdicts:
        """Of all batches."""
        columns = ([getattr(part, each.name) for part in parts] for each in fields(cls))
        return cls(*(torch.cat(column) for column in columns))

    @property
    def certified(self) -> Tensor:
        """Whether every input in the region is proven to be of the sample's class (m,)."""
        return self.decided_by != UNDECIDED


class Certifier:
    """Certifies samples of one model, in one norm, by one method or the cheapest that decides.

    Args:
        judged: the model.
        unit: of the data.
        norm: in which ε is measured.
        method: a name of ``METHODS``, or ``auto``: all but ``complete``, which asks all of them.
            ``auto`` leaves samples open that are unlikely to be decided (``Prospect``); the others
            ask to the end.
        branches: limit of ``complete``.
        branch_seconds: limit of ``complete``.
    """

    def __init__(
        self,
        judged: Judged,
        unit: InputUnit,
        *,
        norm: NormName = CertifyOptions.norm,
        method: MethodName = CertifyOptions.method,
        branches: int = CertifyOptions.branches,
        branch_seconds: float | None = CertifyOptions.branch_seconds,
    ) -> None:
        self.judged, self.unit, self.norm = judged, unit, norm
        every = _bounds(Dual(persistent=method != "auto"), Complete(branches, branch_seconds))
        of_method = {"auto": METHODS[:-1], "complete": METHODS}.get(method, (method,))
        self.bounds = {name: every[name] for name in of_method}
        self._linear = {name: every[name] for name in ("norm", "sensitivity")}

    def batches(self, samples: int) -> Iterator[slice]:
        """Slices of the samples that are judged together, of bounded memory."""
        equation = self.judged.equation
        entries = equation.outputs * max(equation.inputs, equation.states)
        size = max(1, min(_LARGEST_BATCH, _BLOCK // entries))
        for start in range(0, samples, size):
            yield slice(start, min(start + size, samples))

    @torch.no_grad()
    def verdicts(
        self,
        values: Tensor,
        classes: Tensor,
        epsilon: Tensor,
        lost: Tensor | None = None,
        *,
        branching: bool = True,
    ) -> Verdicts:
        """Judge a batch.

        Args:
            values: samples (m, p) in the data's unit, float64.
            classes: that they are to keep (m,).
            epsilon: of each (m,).
            lost: samples that are known to be misclassified somewhere in their region (m,), of
                which ``auto`` asks the cheap bounds alone.
            branching: whether ``complete`` branches, or stops at the bounds before it.
        """
        start = time.process_time()
        whole = Problem(self.judged, self.unit.region(values, epsilon, self.norm), classes)
        decided = torch.full_like(classes, UNDECIDED)
        margin = torch.full_like(epsilon, torch.nan)
        reached, broken = margin.clone(), torch.zeros_like(classes).bool()
        left = torch.arange(len(classes))
        problem = whole
        for name, bound in self.bounds.items():
            if lost is not None and name in _COSTLY and len(self.bounds) > 1:
                hopeful = ~lost[left]
                left, problem = left[hopeful], problem.select(hopeful)
            if not len(left) or (isinstance(bound, Complete) and not branching):
                break
            if isinstance(bound, Complete):
                found = bound.search(problem)
                margins, reached[left] = found.lower, found.least
                leads = self.leads(values[left], classes[left], epsilon[left], found.inputs)
                broken[left] = leads < -ROUNDING
            else:
                margins = bound(problem)
            least = margins.amin(1)
            margin[left] = torch.fmax(margin[left], least)
            proven = least > 0
            decided[left[proven]] = METHODS.index(name)
            left, problem = left[~proven], problem.select(~proven)
        seconds = (time.process_time() - start) / max(len(classes), 1)
        return Verdicts(decided, margin, reached, broken, torch.full_like(epsilon, seconds))

    @torch.no_grad()
    def leads(self, values: Tensor, classes: Tensor, epsilon: Tensor, inputs: Tensor) -> Tensor:
        """By how much classes lead at inputs near samples, over the largest output there (m,).

        Args:
            values: as of ``verdicts``.
            classes: as of ``verdicts``.
            epsilon: as of ``verdicts``.
            inputs: of the model (m, p); put back into the region, from which rounding may have
                taken them.
        """
        low, high = map(self.unit.inputs, self.unit.limits(values, epsilon[:, None]))
        inputs = torch.minimum(torch.maximum(inputs.double(), low), high)
        if self.norm == "l2":
            reach = epsilon[:, None] / self.unit.deviation
            inputs = inside(inputs, self.unit.inputs(values), reach)
        outputs = self.judged.equation.model(inputs)
        lead: Tensor = margins_of(outputs, classes) / outputs.abs().amax(1)
        return lead

    @torch.no_grad()
    def linear_radii(self, name: str, values: Tensor, classes: Tensor) -> Tensor:
        """The radii (m,) that a bound linear in ε certifies: ``norm`` or ``sensitivity``.

        In the unit without its valid range, whose middle would move with ε. A sample's radius is
        where its line meets zero, a rounding less, and the bound is asked there again.
        """
        bound, free = self._linear[name], InputUnit(self.unit.mean, self.unit.deviation)

        def margins(epsilon: Tensor) -> Tensor:
            return bound(Problem(self.judged, free.region(values, epsilon, self.norm), classes))

        zero = torch.zeros(len(values), dtype=torch.float64)
        at_zero, at_one = margins(zero), margins(zero + 1)
        crossing = at_zero / (at_zero - at_one)
        radius = crossing.where(at_zero.isfinite(), torch.inf).amin(1) * (1 - 1e-9)
        radius = radius.where((at_zero > 0).all(1) & radius.isfinite(), zero)
        return radius.where((margins(radius) > 0).all(1), zero)

    def radii(
        self, values: Tensor, classes: Tensor, low: Tensor, high: Tensor, steps: int
    ) -> Tensor:
        """The largest ε (m,) found at which each sample is certified, by bisection, not branching.

        Regions grow with ε, so that what is certified at one ε is at every smaller one.

        Args:
            values: as of ``verdicts``.
            classes: as of ``verdicts``.
            low: radii that are certified (m,); 0 where a sample is not certified at all.
            high: radii at which they are not (m,); infinite where none is known.
            steps: of bisection, after what it takes to find a ``high``.
        """
        low, high = low.clone(), high.clone()

        def ask(rows: Tensor, epsilon: Tensor) -> None:
            batch = (values[rows], classes[rows], epsilon)
            proven = self.verdicts(*batch, branching=False).certified
            low[rows[proven]] = epsilon[proven]
            high[rows[~proven]] = epsilon[~proven]

        for _ in range(_DOUBLINGS):
            rows = (high.isinf() & (low > 0)).nonzero().squeeze(1)
            if not len(rows):
                break
            ask(rows, 2 * low[rows])
        for _ in range(steps):
            rows = ((low > 0) & high.isfinite()).nonzero().squeeze(1)
            if not len(rows):
                break
            ask(rows, (low[rows] * high[rows]).sqrt().clamp(low[rows], high[rows]))
        return low


def _bounds(dual: Dual, complete: Complete) -> MappingProxyType[str, Bound]:
    every = (norm, Sensitivity(), interval, relaxation, dual, complete)
    return MappingProxyType(dict(zip(METHODS, every, strict=True)))
