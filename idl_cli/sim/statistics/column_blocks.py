"""Sufficient statistics of a large state, split by columns over processes: none holds G whole.

Every process records its own share of the samples, which are then gathered batch by batch: each
process adds all samples to its own columns of G and its own rows of the cross moments. That moves
every sample to every process once, and spreads the teacher's work and the products alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.distributed.sharding import share
from idl_cli.errors import NonFiniteError
from idl_cli.sim.statistics.block_matrix import ColumnBlocks
from idl_cli.sim.statistics.dense import SufficientStatistics
from idl_cli.sim.statistics.offsets import Offsets, moved, none_like

_CHUNK = 1024  # samples converted to float64 at a time


class ColumnBlockStatistics:
    """A process's part of the second moments of features S = [X, U] and of named targets.

    Args:
        state_dim: n.
        input_dim: p, the constant included.
        targets: name -> number of columns of each target, of all processes together.
        group: the processes.
        device: where the sums of this process live, in float64.

    Attributes:
        gram: (D, w), this process's columns of G.
        cross: name -> (rows of this process, D).
        square: name -> (rows of this process,).
        count: number of samples of all processes seen so far.
        offsets: what is taken out of features and targets (of all processes), None as a rule.
    """

    def __init__(
        self,
        state_dim: int,
        input_dim: int,
        targets: Mapping[str, int],
        *,
        group: Group,
        device: torch.device | str = "cpu",
    ) -> None:
        self.state_dim = state_dim
        self.input_dim = input_dim
        self.targets = dict(targets)
        self.blocks = ColumnBlocks(state_dim + input_dim, group)
        self.count = 0
        self.offsets: Offsets | None = None
        features, columns = self.blocks.features, self.blocks.columns
        width = columns.stop - columns.start
        self.gram = torch.zeros(features, width, dtype=torch.float64, device=device)
        self.cross, self.square = {}, {}
        for name in targets:
            rows = self.rows_of(name)
            length = rows.stop - rows.start
            self.cross[name] = self.gram.new_zeros(length, features)
            self.square[name] = self.gram.new_zeros(length)

    @property
    def whole(self) -> SufficientStatistics | None:
        """None: no process holds them whole."""
        return None

    def empty(self, targets: Iterable[str]) -> ColumnBlockStatistics:
        """Statistics of the same features and some of the targets, of no sample yet."""
        return ColumnBlockStatistics(
            self.state_dim,
            self.input_dim,
            {name: self.targets[name] for name in targets},
            group=self.blocks.group,
            device=self.gram.device,
        )

    def sum_over(self, group: Group) -> None:
        """Nothing: every process has added the samples of all."""

    def rows_of(self, target: str) -> slice:
        """Which rows of a target are this process's."""
        group = self.blocks.group
        return share(self.targets[target], group.rank, group.size)

    @torch.no_grad()
    def update(self, states: Tensor, inputs: Tensor, targets: Mapping[str, Tensor]) -> None:
        """Add a batch of each process; collective.

        Args:
            states: X (b, n) of this process, also of no sample.
            inputs: U (b, p).
            targets: name -> (b, rows of all processes).

        Raises:
            NonFiniteError: a tensor holds NaN or infinity, in whichever process.
        """
        names = sorted(self.targets)
        own = torch.cat([states, inputs, *(targets[name].to(states) for name in names)], dim=1)
        whole = self.blocks.group.gather_rows(own.to(self.gram.device))
        if not bool(whole.isfinite().all()):
            raise NonFiniteError(
                "states, inputs or outputs hold NaN or infinity; check the teacher and the "
                "preprocessing of its inputs"
            )
        widths = [self.blocks.features, *(self.targets[name] for name in names)]
        for index, chunk in enumerate(torch.split(whole, _CHUNK)):
            features, *rest = torch.split(chunk.to(self.gram), widths, dim=1)
            targets = dict(zip(names, rest, strict=True))
            if self.count == index == 0:
                # All processes see the same samples here, so that they find the same offsets.
                self.offsets = Offsets.of(features, self.state_dim, targets)
            if self.offsets is not None:
                constant = features[:, self.offsets.constant].clone()
                self.offsets.take_out_(features, constant)
            self.gram.addmm_(features.T, features[:, self.blocks.columns])
            for name, values in targets.items():
                if self.offsets is not None:
                    values = values - torch.outer(constant, self.offsets.targets[name])
                mine = values[:, self.rows_of(name)]
                self.cross[name].addmm_(mine.T, features)
                self.square[name].add_(mine.square().sum(dim=0))
        self.count += len(whole)

    def target_offsets(self, target: str) -> Tensor:
        """What has been taken out of this process's rows of a target (rows,)."""
        assert self.offsets is not None
        return self.offsets.targets[target][self.rows_of(target)]

    def raw(self, target: str) -> tuple[Tensor, Tensor, Tensor]:
        """G (D, w), H (rows, D), ‖t‖² (rows,) of features and a target as they are; collective."""
        parts = self.gram, self.cross[target], self.square[target]
        if self.offsets is None:
            return parts
        own = {target: self.target_offsets(target)}
        before = Offsets(self.offsets.constant, self.offsets.features, own)
        gram, cross, square = moved(
            parts[0],
            {target: parts[1]},
            {target: parts[2]},
            before,
            none_like(before),
            column=self.blocks.group.gather_rows(self.gram[before.constant].contiguous()),
            columns=self.blocks.columns,
        )
        return gram, cross[target], square[target]

    def rescaled(self, scale: Tensor) -> ColumnBlockStatistics:
        """Those of the states divided by ``scale`` (n,), and of the targets "Z" likewise."""
        result = self.empty(self.targets)
        inverse = scale.to(self.gram).reciprocal()
        features = torch.cat([inverse, inverse.new_ones(self.input_dim)])
        result.count = self.count
        result.gram.copy_(self.blocks.scaled(self.gram, features))
        for name, cross in self.cross.items():
            rows = inverse[self.rows_of(name)] if name == "Z" else inverse.new_ones(len(cross))
            result.cross[name].copy_(rows[:, None] * cross * features)
            result.square[name].copy_(rows.square() * self.square[name])
        if self.offsets is not None:
            result.offsets = self.offsets.scaled(features, {"Z": inverse})
        return result
