"""Sufficient statistics: all that a solver or the certificate needs to know of the data.

With features ``s = (x, u)`` and targets ``t`` of each of m samples, the squared error of any
weights ``w`` is ``½ wᵀGw − hᵀw + ½‖t‖²`` where ``G = Σ s sᵀ``, ``h = Σ t s``. The sums are additive
over batches and over processes, so memory is O(D²) whatever the number of samples, and a sum over
shards (one all-reduce of :meth:`SufficientStatistics.tensors`) gives the statistics of the whole.
Where a constant input allows it, large offsets are taken out of features and targets first
(:mod:`idl_cli.sim.statistics.offsets`): they would leave G no digits for what varies.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.errors import ArgumentError, DataError, ShapeError
from idl_cli.sim.states.origin import Origin
from idl_cli.sim.statistics.batches import check_batch
from idl_cli.sim.statistics.block_matrix import ColumnBlocks
from idl_cli.sim.statistics.offsets import Offsets, moved, none_like
from idl_cli.sim.statistics.reduction import sum_over_group
from idl_cli.sim.statistics.squares import check_moments
from idl_cli.sim.statistics.sums_file import read_sums, write_sums
from idl_cli.sim.statistics.symmetric import add_gram_, mirror_

_OFFSETS = "offsets."
_CHUNK = 1024
"""Samples converted to float64 at a time: bounds the memory when a batch is the whole data set."""


class SufficientStatistics:
    """Second moments of features S = [X, U] and of named targets, accumulated in float64.

    Both SIM stages share the features: targets ``Z`` give the rows of [A B], targets ``Y`` those of
    [C D], so that one pass over the data serves both.

    Args:
        state_dim: n, the number of states; the first n features are the states.
        input_dim: p, the number of inputs (the constant input of a model with biases included).
        targets: name -> number of columns, e.g. ``{"Z": n, "Y": q}``.
        device: where the sums live, in float64: a gram matrix squares the condition number.

    Attributes:
        gram: (D, D) with D = n + p, Σ s sᵀ. Batches are added to its upper triangle alone.
        cross: name -> (rows, D), Σ t sᵀ.
        square: name -> (rows,), Σ t².
        offsets: what the first batch showed to be worth taking out of s and t in all of these; None
            as a rule. :meth:`raw` puts it back, at the price of the digits.
        count: number of samples m seen so far.
        origin: the teacher and the samples they are of; None where nobody has said.
    """

    def __init__(
        self,
        state_dim: int,
        input_dim: int,
        targets: Mapping[str, int],
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        if state_dim < 0 or input_dim < 0 or state_dim + input_dim < 1:
            raise ArgumentError(
                f"SufficientStatistics: state_dim={state_dim}, input_dim={input_dim}; "
                "both must be >= 0 and their sum >= 1"
            )
        if not targets or any(rows < 1 for rows in targets.values()):
            raise ArgumentError(
                f"SufficientStatistics: targets={dict(targets)}; "
                "name at least one target, each with at least one column"
            )
        self.state_dim = state_dim
        self.input_dim = input_dim
        self.count = 0
        self.offsets: Offsets | None = None
        self.origin: Origin | None = None
        features = state_dim + input_dim
        self._gram = torch.zeros(features, features, dtype=torch.float64, device=device)
        self._is_mirrored = True
        self.cross = {
            name: torch.zeros(rows, features, dtype=torch.float64, device=device)
            for name, rows in targets.items()
        }
        self.square = {
            name: torch.zeros(rows, dtype=torch.float64, device=device)
            for name, rows in targets.items()
        }

    @property
    def gram(self) -> Tensor:
        """G (D, D) itself, not a copy; symmetric to the bit after every update."""
        if not self._is_mirrored:
            mirror_(self._gram)
            self._is_mirrored = True
        return self._gram

    @property
    def blocks(self) -> ColumnBlocks | None:
        """How G is split by columns: not at all."""
        return None

    @property
    def whole(self) -> SufficientStatistics | None:
        """These, where a process holds them whole: what can be saved, and shared between passes."""
        return self

    @property
    def feature_dim(self) -> int:
        """D = n + p."""
        return self.state_dim + self.input_dim

    @torch.no_grad()
    def update(self, states: Tensor, inputs: Tensor, targets: Mapping[str, Tensor]) -> None:
        """Add one batch; on an error nothing has been added.

        Args:
            states: X (b, n), float32 or float64.
            inputs: U (b, p).
            targets: name -> (b, rows), every name given to the constructor.

        Raises:
            ShapeError: a tensor has the wrong shape, or a target is missing or unknown.
            NonFiniteError: a tensor holds NaN or infinity; the message names it and the sample.
        """
        tensors = self._checked(states, inputs, targets)
        for start in range(0, len(states), _CHUNK):
            chunk = {name: tensor[start : start + _CHUNK] for name, tensor in tensors.items()}
            features = self._gram.new_empty(len(chunk["X"]), self.feature_dim)
            features[:, : self.state_dim] = chunk["X"]
            features[:, self.state_dim :] = chunk["U"]
            of_targets = {name: chunk[f"target {name}"].to(self._gram) for name in self.cross}
            if self.count == start == 0:
                self.offsets = Offsets.of(features, self.state_dim, of_targets)
            if self.offsets is not None:
                constant = features[:, self.offsets.constant].clone()
                self.offsets.take_out_(features, constant)
                for name, target in of_targets.items():
                    target = target - torch.outer(constant, self.offsets.targets[name])
                    of_targets[name] = target
            self._is_mirrored = False
            add_gram_(self._gram, features)
            for name, target in of_targets.items():
                self.cross[name].addmm_(target.T, features)
                self.square[name].add_(target.square().sum(dim=0))
        self.count += len(states)

    def empty(self, targets: Iterable[str]) -> SufficientStatistics:
        """Statistics of the same features and some of the targets, of no sample yet."""
        rows = {name: len(self.cross[name]) for name in targets}
        return SufficientStatistics(self.state_dim, self.input_dim, rows, device=self._gram.device)

    def rescaled(self, scale: Tensor) -> SufficientStatistics:
        """Those of the states divided by ``scale``, and of the targets "Z" divided by it too.

        Exact up to one rounding a number: G ← E G E, H ← diag(1/t) H E, ‖z‖² ← ‖z‖²/t² with
        E = diag(1/t, 1).

        Args:
            scale: t (n,), positive.
        """
        result = self.empty(self.cross)
        inverse = scale.to(self.gram).reciprocal()
        features = torch.cat([inverse, inverse.new_ones(self.input_dim)])
        result.count = self.count
        result.gram.copy_(features[:, None] * self.gram * features)
        for name, cross in self.cross.items():
            rows = inverse if name == "Z" else inverse.new_ones(len(cross))
            result.cross[name].copy_(rows[:, None] * cross * features)
            result.square[name].copy_(rows.square() * self.square[name])
        if self.offsets is not None:
            result.offsets = self.offsets.scaled(features, {"Z": inverse})
        return result

    def target_offsets(self, target: str) -> Tensor:
        """What has been taken out of a target (rows,)."""
        assert self.offsets is not None
        return self.offsets.targets[target]

    def raw(self, target: str) -> tuple[Tensor, Tensor, Tensor]:
        """G (D, D), H (rows, D) and ‖t‖² (rows,) of the features and a target as they are."""
        cross, square = {target: self.cross[target]}, {target: self.square[target]}
        if self.offsets is None:
            return self.gram, cross[target], square[target]
        gram, cross, square = moved(self.gram, cross, square, self.offsets, none_like(self.offsets))
        return gram, cross[target], square[target]

    def _move(self, offsets: Offsets | None) -> None:
        """Take out other offsets."""
        if offsets is self.offsets:
            return
        before = self.offsets
        if before is not None and (offsets is None or before.constant != offsets.constant):
            self._move_between(before, none_like(before))
            before = None
        if offsets is not None:
            self._move_between(before or none_like(offsets), offsets)
        self.offsets = offsets

    def _move_between(self, before: Offsets, after: Offsets) -> None:
        gram, self.cross, self.square = moved(self.gram, self.cross, self.square, before, after)
        self._gram.copy_(gram)

    def merge(self, other: SufficientStatistics) -> None:
        """Add the sums of another part of the data, e.g. of another process.

        Raises:
            ShapeError: the two were not made for the same dimensions and targets.
        """
        if self._layout() != other._layout():
            raise ShapeError(
                f"cannot merge statistics of different problems: {self._layout()} and "
                f"{other._layout()}; merge statistics of the same teacher and the same inputs"
            )
        if other.offsets is not None and (self.count == 0 or self.offsets is None):
            self._move(other.offsets)
        elif self.offsets is not other.offsets:
            other = copy.deepcopy(other)
            other._move(self.offsets)
        for mine, theirs in zip(self.tensors().values(), other.tensors().values(), strict=True):
            mine.add_(theirs.to(mine))
        self.count += other.count

    def sum_over(self, group: Group) -> None:
        """Add up the shares that the processes of a group have seen: each then holds the whole."""
        if group.size > 1:
            found = group.gather_objects(self.offsets)
            shared = next((each for each in found if each is not None), None)
            self._move(None if shared is None else shared.to(self._gram))
        count = self._gram.new_tensor([float(self.count)])
        others = [*self.cross.values(), *self.square.values()]
        self._is_mirrored = False
        sum_over_group(group, [count, *others], symmetric=[self._gram])
        self.count = round(float(count))

    def tensors(self) -> dict[str, Tensor]:
        """The sums themselves (not copies) in a fixed order: what an all-reduce must add up."""
        result = {"gram": self.gram}
        for name in sorted(self.cross):
            result[f"cross.{name}"] = self.cross[name]
            result[f"square.{name}"] = self.square[name]
        return result

    def save(self, path: str | Path) -> None:
        """Write the statistics and their origin, atomically, with a digest of both.

        Raises:
            DataError: the disk is full or refuses; a file that was there before stays as it was.
        """
        description = {
            "layout": json.dumps(self._layout()),
            "count": str(self.count),
            "origin": json.dumps(None if self.origin is None else self.origin.to_dict()),
        }
        stored = self.tensors()
        if self.offsets is not None:
            description["constant"] = str(self.offsets.constant)
            stored[f"{_OFFSETS}features"] = self.offsets.features
            for name, target in self.offsets.targets.items():
                stored[f"{_OFFSETS}target.{name}"] = target
        write_sums(Path(path), stored, description)

    @classmethod
    def load(cls, path: str | Path, *, device: torch.device | str = "cpu") -> SufficientStatistics:
        """Read what :meth:`save` wrote, and check that it can be second moments of some data.

        Raises:
            DataError: the file is missing, truncated, altered, of another kind or version, or its
                numbers are impossible (not finite, not symmetric, violating Cauchy-Schwarz).
        """
        path = Path(path)
        stored, metadata = read_sums(path, device)
        try:
            layout = json.loads(metadata["layout"])
            announced = layout["state_dim"] + layout["input_dim"], *layout["targets"].values()
            if max(announced) > max(len(each) for each in stored.values()):
                raise ValueError(f"{layout} does not fit what is stored")  # before memory is taken
            result = cls(layout["state_dim"], layout["input_dim"], layout["targets"], device=device)
            result.count = int(metadata["count"])
            origin = json.loads(metadata.get("origin", "null"))
            result.origin = None if origin is None else Origin.from_dict(origin)
            if "constant" in metadata:
                result.offsets = Offsets(
                    int(metadata["constant"]),
                    stored[f"{_OFFSETS}features"],
                    {name: stored[f"{_OFFSETS}target.{name}"] for name in result.cross},
                )
                result.offsets.check(result.feature_dim, layout["targets"])
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise DataError(f"{path}: its description is damaged ({error!r})") from error
        result._fill(stored, path)
        return result

    def _fill(self, stored: Mapping[str, Tensor], path: Path) -> None:
        own = self.tensors()
        for name, tensor in own.items():
            found = stored.get(name)
            if found is None or found.shape != tensor.shape or found.dtype != tensor.dtype:
                seen = "nothing" if found is None else f"{found.dtype} {tuple(found.shape)}"
                raise DataError(
                    f"{path}: {name} must be {tensor.dtype} {tuple(tensor.shape)}, found {seen}"
                )
            tensor.copy_(found)
        if self.count < 0 or not all(bool(t.isfinite().all()) for t in own.values()):
            raise DataError(f"{path}: holds NaN, infinity or a negative count")
        check_moments(path, self.gram, self.cross, self.square)

    def _layout(self) -> dict[str, object]:
        return {
            "state_dim": self.state_dim,
            "input_dim": self.input_dim,
            "targets": {name: len(self.cross[name]) for name in sorted(self.cross)},
        }

    def _checked(
        self, states: Tensor, inputs: Tensor, targets: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        if targets.keys() != self.cross.keys():
            raise ShapeError(
                f"statistics need the targets {sorted(self.cross)}, got {sorted(targets)}"
            )
        tensors = {"X": states, "U": inputs}
        widths = {"X": self.state_dim, "U": self.input_dim}
        for name in self.cross:
            tensors[f"target {name}"] = targets[name]
            widths[f"target {name}"] = len(self.cross[name])
        check_batch(tensors, widths, self.count)
        return tensors
