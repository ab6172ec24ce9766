"""Sufficient statistics: all that a solver or the certificate needs to know of the data.

With features ``s = (x, u)`` and targets ``t`` of each of m samples, the squared error of any
weights ``w`` is ``½ wᵀGw − hᵀw + ½‖t‖²`` where ``G = Σ s sᵀ``, ``h = Σ t s``. The sums are additive
over batches and over processes, so memory is O(D²) whatever the number of samples, and a sum over
shards (one all-reduce of :meth:`SufficientStatistics.tensors`) gives the statistics of the whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.errors import ArgumentError, DataError, NonFiniteError, ShapeError
from idl_cli.sim.finite import all_finite
from idl_cli.sim.origin import Origin, digest_of
from idl_cli.sim.reduction import sum_over_group
from idl_cli.sim.symmetric import add_gram_, mirror_

_FORMAT = "idl-sufficient-statistics-2"
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
            self._is_mirrored = False
            add_gram_(self._gram, features)
            for name in self.cross:
                target = chunk[f"target {name}"].to(self._gram)
                self.cross[name].addmm_(target.T, features)
                self.square[name].add_(target.square().sum(dim=0))
        self.count += len(states)

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
        for mine, theirs in zip(self.tensors().values(), other.tensors().values(), strict=True):
            mine.add_(theirs.to(mine))
        self.count += other.count

    def sum_over(self, group: Group) -> None:
        """Add up the shares that the processes of a group have seen: each then holds the whole."""
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
        """Write the statistics and their origin as safetensors, atomically, with a digest of both.

        There is no pickle on either side.
        """
        path = Path(path)
        metadata = {
            "format": _FORMAT,
            "layout": json.dumps(self._layout()),
            "count": str(self.count),
            "origin": json.dumps(None if self.origin is None else self.origin.to_dict()),
        }
        metadata["sha256"] = digest_of(metadata, self.tensors())
        temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            contiguous = {name: value.contiguous() for name, value in self.tensors().items()}
            save_file(contiguous, temporary, metadata=metadata)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path, *, device: torch.device | str = "cpu") -> SufficientStatistics:
        """Read what :meth:`save` wrote, and check that it can be second moments of some data.

        Raises:
            DataError: the file is missing, truncated, altered, of another kind or version, or its
                numbers are impossible (not finite, not symmetric, violating Cauchy-Schwarz).
        """
        path = Path(path)
        try:
            with safe_open(path, framework="pt", device=str(device)) as file:
                metadata = file.metadata() or {}
                stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 safe_open is no mapping
        except (OSError, SafetensorError) as error:
            raise DataError(
                f"{path}: cannot be read as statistics ({error}); record the states again"
            ) from error
        if metadata.get("format") != _FORMAT:
            raise DataError(
                f"{path}: is not a statistics file of this version "
                f"(format {metadata.get('format')!r}, need {_FORMAT!r}); record the states again"
            )
        digest = metadata.pop("sha256", None)
        if digest != digest_of(metadata, stored):
            raise DataError(
                f"{path}: damaged: its numbers and description do not match their checksum; "
                "record the states again"
            )
        try:
            layout = json.loads(metadata["layout"])
            result = cls(layout["state_dim"], layout["input_dim"], layout["targets"], device=device)
            result.count = int(metadata["count"])
            origin = json.loads(metadata["origin"])
            result.origin = None if origin is None else Origin.from_dict(origin)
        except (KeyError, TypeError, ValueError) as error:
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
        # Round-off of the sums; anything beyond it did not come from data.
        slack = 1e-9
        diagonal = self.gram.diagonal()
        scale = float(diagonal.abs().max())
        if bool((diagonal < 0).any()) or not torch.allclose(
            self.gram, self.gram.T, rtol=0.0, atol=slack * scale
        ):
            raise DataError(f"{path}: the gram matrix is not symmetric positive semi-definite")
        for name, cross in self.cross.items():
            bound = (self.square[name][:, None].clamp(min=0) * diagonal).sqrt()
            if bool((cross.abs() > bound * (1 + slack)).any()):
                raise DataError(
                    f"{path}: cross moments of {name} exceed what any data could give "
                    "(Cauchy-Schwarz); the file is damaged"
                )

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
        for name, tensor in tensors.items():
            if tensor.ndim != 2 or tensor.shape != (len(states), widths[name]):
                raise ShapeError(
                    f"{name} must have shape ({len(states)}, {widths[name]}) "
                    f"(samples, columns), got {tuple(tensor.shape)}"
                )
            if not tensor.is_floating_point():
                raise ShapeError(f"{name} must be floating point, got {tensor.dtype}")
            if not all_finite(tensor):
                sample = int((~tensor.isfinite().all(dim=1)).nonzero()[0])
                raise NonFiniteError(
                    f"{name} holds NaN or infinity (first in sample {self.count + sample}); "
                    "check the teacher and the preprocessing of its inputs"
                )
        return tensors
