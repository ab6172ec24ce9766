"""Branch and bound: boxes of states are cut in two until each part is decided.

A question is whether a sample's class leads one other class in its whole region. Its parts are
boxes of pre-activations, and every equilibrium of the region is in at least one. A part is closed
where a dual bound is positive there, or where it holds no equilibrium; of the others the worst are
cut first (Bunel et al., arXiv 1909.06588). The cut takes part in the bound by a multiplier of its
own (β-CROWN, arXiv 2103.06624), and a part on which φ is affine is a linear program. The inputs at
which bounds are attained are tried on the model: one that leaves the class answers its sample.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import torch
from torch import Tensor

from idl_cli.certificates import leaf
from idl_cli.certificates.ascent import Start, improved
from idl_cli.certificates.cuts import CANDIDATES, bent, choice
from idl_cli.certificates.duality import Form, Relaxation
from idl_cli.certificates.estimate import Estimate
from idl_cli.certificates.parts import Parts
from idl_cli.certificates.problem import Problem
from idl_cli.certificates.state_box import StateBox, tightened

_ASCENT: Final = 20
_SETTLING: Final = 8
_CUT_AT_ONCE: Final = 32
_BLOCK: Final = 1 << 23  # entries of what bounds parts
ROUNDING: Final = 1e-9
"""Of outputs as computed in float64, over the largest one."""


@dataclass(frozen=True)
class Found:
    """Of m samples.

    Attributes:
        lower: at least f_i − f_j (m, q); +inf where j = i.
        inputs: where the class leads least of all inputs tried (m, p).
        least: by how much there (m,); NaN where none was tried.
        branches: boxes that were bounded (m,).
    """

    lower: Tensor
    inputs: Tensor
    least: Tensor
    branches: Tensor

    @classmethod
    def untried(cls, problem: Problem, lower: Tensor) -> Found:
        """Margins alone."""
        nothing = torch.full_like(lower[:, 0], torch.nan)
        return cls(lower, problem.region.centre, nothing, torch.zeros_like(problem.classes))

    @classmethod
    def joined(cls, found: Sequence[Found]) -> Found:
        """Of all samples."""
        columns = ([getattr(each, one.name) for each in found] for one in fields(cls))
        return cls(*(torch.cat(column) for column in columns))


class BranchAndBound:
    """Decides the samples of a problem that bounds left open.

    Args:
        problem: m samples, of a φ whose shape is known.
        box: proven boxes of their states.
        margins: lower bounds that are known (m, q).
        branches: boxes that are bounded of a sample at most.
        seconds: processor time of a sample at most; None for no limit.
    """

    def __init__(
        self,
        problem: Problem,
        box: StateBox,
        margins: Tensor,
        *,
        branches: int,
        seconds: float | None = None,
    ) -> None:
        self._problem, self._box, self._margins = problem, box, margins
        self._branches, self._seconds = branches, seconds
        self._equation = equation = problem.judged.equation
        shape = equation.graph.shape
        assert shape is not None
        self._shape = shape
        asked = ~(margins > 0) & box.pre_low.isfinite().all(1, keepdim=True)
        self._sample, self._rival = asked.nonzero(as_tuple=True)
        self._closed = torch.full_like(margins[self._sample, self._rival], torch.inf)
        entries = 2 * equation.states * max(equation.states, equation.inputs)
        self._size = max(1, min(_CUT_AT_ONCE, _BLOCK // entries))
        self._inputs = problem.region.centre.clone()
        self._least = torch.full_like(margins[:, 0], torch.inf)
        self._broken = torch.zeros_like(self._least, dtype=torch.bool)
        self._spent = torch.zeros_like(self._least)
        self._used = torch.zeros_like(problem.classes)

    def run(self) -> Found:
        """Branch until every sample is decided or has used up what it is given."""
        parts = Parts.none(self._equation.states)
        if len(self._sample):
            questions = torch.arange(len(self._sample))
            for some in torch.split(questions, 2 * self._size):
                parts = parts.joined(self._root(some))
        while len(parts := self._open(parts)):
            worst = torch.zeros(len(parts), dtype=torch.bool)
            worst[parts.bound.argsort()[: self._size]] = True
            parts = parts.select(~worst).joined(self._halves(parts.select(worst)))
        lower = self._margins.clone()
        known = lower[self._sample, self._rival]
        lower[self._sample, self._rival] = torch.fmax(known, self._closed)
        least = self._least.where(self._least.isfinite(), torch.nan)
        return Found(lower, self._inputs, least, self._used)

    def _open(self, parts: Parts) -> Parts:
        """The parts that are worth cutting; what is known of the others is final."""
        over = self._broken | (self._used >= self._branches)
        if self._seconds is not None:
            over |= self._spent >= self._seconds
        going = ~(parts.bound > 0) & (parts.state >= 0) & ~over[self._sample[parts.question]]
        done = parts.select(~going)
        self._closed.scatter_reduce_(0, done.question, done.bound.nan_to_num(-torch.inf), "amin")
        return parts.select(going)

    def _form(self, question: Tensor) -> Form:
        """C_i − C_j and its like of every part (k, 1, …)."""
        equation, j = self._equation, self._rival[question]
        i = self._problem.classes[self._sample[question]]
        each = (equation.C, equation.D, equation.output_bias)
        return Form(*((rows[i] - rows[j])[:, None] for rows in each))

    def _root(self, question: Tensor) -> Parts:
        sample = self._sample[question]
        region, box = self._problem.region.select(sample), self._box.select(sample)
        estimate = Estimate.of(self._equation, region, box.pre_low, box.pre_high)
        start = Start.of(estimate, self._form(question))
        split = torch.zeros_like(box.low, dtype=torch.bool)
        return self._bounded(
            question, box, split, start, torch.full_like(box.low[:, 0], -torch.inf)
        )

    def _halves(self, parts: Parts) -> Parts:
        """Both sides of every cut, bounded."""
        begun = time.process_time()
        sides = parts.halves(parts.state, parts.cut)
        low, high = (torch.cat(ends) for ends in zip(*sides, strict=True))
        both = parts.select(parts.rows.repeat(2))
        both.split[both.rows, both.state] = True
        sample = self._sample[both.question]
        value, reach, wrong = (each[sample] for each in self._problem.offset)
        box = StateBox(*self._equation.graph.image(low, high), low, high)
        box = tightened(self._equation, (value, reach, wrong), box)
        halves = self._bounded(both.question, box, both.split, both.start, both.bound)
        self._used.index_add_(0, sample, torch.ones_like(sample))
        seconds = (time.process_time() - begun) / len(both)
        self._spent.index_add_(0, sample, torch.full_like(both.bound, seconds))
        return halves

    def _bounded(
        self, question: Tensor, box: StateBox, split: Tensor, start: Start, known: Tensor
    ) -> Parts:
        """Bound what boxes hold, drop those that hold nothing, and say where to cut the others.

        Args:
            question: of each (k,).
            box: every equilibrium of the part is in it (k, n).
            split: as of ``Parts``.
            start: multipliers to begin at (k, 1, n).
            known: a lower bound (k,).
        """
        held = ~((box.pre_low > box.pre_high) | (box.low > box.high)).any(1)
        if not bool(held.any()):
            return Parts.none(self._equation.states)
        question, split, known = question[held], split[held], known[held]
        box, start = box.select(held), start.select(held)
        region, form = self._problem.region.select(self._sample[question]), self._form(question)
        estimate = Estimate.of(self._equation, region, box.pre_low, box.pre_high)
        curved = bent(self._shape, box.pre_low, box.pre_high)
        slopes = start.slopes.where(curved[:, None], estimate.lower[:, None])
        start = start.with_slopes(slopes).settled(estimate, form.single(), _SETTLING)
        multipliers, last = improved(estimate, form, start, _ASCENT, split)
        value = Relaxation.of(self._equation, region, box).value(form, multipliers)[:, 0]
        parts = Parts.of(question, box, split, last, torch.fmax(known, value))
        points = region.least(multipliers @ self._equation.B + form.inputs)[:, 0]
        affine = ~curved.any(1) & ~(parts.bound > 0)
        if self._shape.curvature == 0 and region.ball is None:
            for part in affine.nonzero():
                one = Relaxation.of(self._equation, region.select(part), box.select(part))
                value, at = leaf.solved(one, form.select(part), multipliers[part][0, 0])
                parts.bound[part] = torch.fmax(parts.bound[part], value)
                points[part] = points[part] if at is None else at
        self._try(self._sample[question], points)
        rows = (~affine & ~(parts.bound > 0)).nonzero()[:, 0]
        for some in torch.split(rows, max(1, 2 * self._size // CANDIDATES)) if len(rows) else ():
            asked = (region.select(some), form.select(some), parts.select(some))
            parts.state[some], parts.cut[some] = choice(self._equation, *asked)
        return parts

    def _try(self, sample: Tensor, points: Tensor) -> None:
        """Ask the model at inputs (k, p), and keep the worst of every sample."""
        outputs = self._equation.model(points)
        own = self._problem.classes[sample][:, None]
        others = outputs.scatter(1, own, -torch.inf).amax(1)
        lead = outputs.gather(1, own)[:, 0] - others
        for row in torch.arange(len(lead))[lead < self._least[sample]]:
            place = sample[row]
            if lead[row] < self._least[place]:
                self._least[place], self._inputs[place] = lead[row], points[row]
                self._broken[place] = lead[row] < -ROUNDING * outputs[row].abs().amax()
