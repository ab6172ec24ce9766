"""The one problem of both SIM stages: row-separable l1 regression with an optional l1 budget."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from idl_cli.distributed.group import Group
from idl_cli.errors import ArgumentError, NonFiniteError, ShapeError
from idl_cli.sim.options import LambdaScale as LambdaScale
from idl_cli.sim.regression.row_partition import RowPartition
from idl_cli.sim.regression.row_space import RowSpace
from idl_cli.sim.regression.shift import Shift
from idl_cli.sim.statistics.batches import all_finite
from idl_cli.sim.statistics.block_matrix import ColumnBlocks
from idl_cli.sim.statistics.squares import check_squares


@dataclass(frozen=True)
class RowBudget:
    """``‖w[:count]‖₁ ≤ radius`` for every row: ‖A‖∞ ≤ κ when the first n weights are A's.

    Args:
        count: number of leading entries that share the budget.
        radius: their largest l1 norm, > 0.
    """

    count: int
    radius: float

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ArgumentError(f"RowBudget: count={self.count} must be >= 1; use None for none")
        if not (self.radius > 0 and math.isfinite(self.radius)):
            raise ArgumentError(f"RowBudget: radius={self.radius} must be positive and finite")


@dataclass(frozen=True, eq=False)
class RowRegression:
    """Rows of l1 regression that share their features: for every row i, over w in Rᴰ.

    minimise
        ½ wᵀGw − h_iᵀw + ½‖z_i‖² + λ_i ‖w‖₁ + ½ l2 ‖w‖²    subject to ‖w[:count]‖₁ ≤ radius

    that is ½‖Sᵀw − z_i‖² plus penalties, told by its sufficient statistics. The sum over samples is
    not divided by their number.

    Args:
        gram: G = S Sᵀ (D, D) float64, symmetric positive semi-definite.
        cross: H (rows, D) float64, row i is S z_i.
        target_square: ‖z_i‖² (rows,) float64.
        l1: λ >= 0 of all rows, or λ_i > 0 of each (rows,) float64.
        l2: weight >= 0 of the elastic net's quadratic term.
        budget: the constraint, or None.
        shift: the same problem in coordinates that keep the digits which offsets of features and
            targets cost G and H; None where there is none.
        nonzeros: k_i (rows,) int64, ‖w_i‖₀ ≤ k_i in place of the l1 penalty (λ = 0 then); None for
            no limit.

    Raises:
        ShapeError, ArgumentError, NonFiniteError: the parts do not make up such a problem. A
            feature whose squares underflow is refused too: G says nothing of it.
    """

    gram: Tensor
    cross: Tensor
    target_square: Tensor
    l1: float | Tensor
    l2: float = 0.0
    budget: RowBudget | None = None
    shift: Shift | None = None
    nonzeros: Tensor | None = None

    def __post_init__(self) -> None:
        features = self._gram_shape()[0]
        rows = self.cross.shape[0]
        expected = {
            "gram": self._gram_shape(),
            "cross": (rows, features),
            "target_square": (rows,),
        }
        if isinstance(self.l1, Tensor):
            expected["l1"] = (rows,)
        for name, shape in expected.items():
            tensor: Tensor = getattr(self, name)
            if tuple(tensor.shape) != shape or tensor.dtype != torch.float64:
                raise ShapeError(
                    f"RowRegression: {name} must be float64 {shape}, "
                    f"got {tensor.dtype} {tuple(tensor.shape)}"
                )
            if not all_finite(tensor):
                where = (~tensor.isfinite()).nonzero()[0].tolist()
                raise NonFiniteError(
                    f"RowRegression: {name} holds NaN or infinity (first at {where}); squares of "
                    "features or targets overflow above 1e154: give them another unit"
                )
        if isinstance(self.l1, Tensor) and not bool((self.l1 > 0).all()):
            raise ArgumentError(
                "RowRegression: an l1 of each row must be positive in all of them; 0 is for all"
            )
        for name in ("l1", "l2"):
            value = getattr(self, name)
            if isinstance(value, Tensor):
                continue
            if not (value >= 0 and math.isfinite(value)):
                raise ArgumentError(
                    f"RowRegression: {name}={value} must be finite and not negative"
                )
        if self.budget is not None and self.budget.count > features:
            raise ArgumentError(
                f"RowRegression: the budget covers {self.budget.count} entries of {features}"
            )
        if self.nonzeros is not None:
            self._check_limit(self.nonzeros, features)
        self._check_squares()

    def _check_limit(self, nonzeros: Tensor, features: int) -> None:
        if nonzeros.shape != (self.rows,) or nonzeros.dtype != torch.int64:
            raise ShapeError(
                f"RowRegression: nonzeros must be int64 ({self.rows},), "
                f"got {nonzeros.dtype} {tuple(nonzeros.shape)}"
            )
        if bool(((nonzeros < 0) | (nonzeros > features)).any()):
            raise ArgumentError(
                f"RowRegression: nonzeros must be from 0 to {features}, the number of features, "
                f"got {int(nonzeros.min())} to {int(nonzeros.max())}"
            )
        if self.is_penalised:
            raise ArgumentError(
                "RowRegression: an l1 penalty beside a limit on non-zeros; the limit takes the "
                "penalty's place, give one of them"
            )

    def _gram_shape(self) -> tuple[int, int]:
        return self.gram.shape[-1], self.gram.shape[-1]

    def _check_squares(self) -> None:
        check_squares(self.gram.diagonal(), self.cross, self.target_square)

    @property
    def split(self) -> ColumnBlocks | None:
        """How the columns of G are split over processes; None where each holds G whole."""
        return None

    @property
    def is_split(self) -> bool:
        """Whether products with G are collective, for which all processes must ask in step."""
        return self.split is not None

    @property
    def columns(self) -> slice:
        """The columns of G that ``gram`` holds."""
        return slice(None)

    @property
    def partition(self) -> RowPartition:
        """The processes that share the rows: this one alone, unless G is split."""
        return RowPartition(Group.single())

    @property
    def rows(self) -> int:
        """Number of rows, each a problem of its own."""
        return self.cross.shape[0]

    @property
    def features(self) -> int:
        """D, the number of weights of a row."""
        return self.cross.shape[1]

    @cached_property
    def penalties(self) -> Tensor:
        """λ_i of every row (rows,)."""
        if isinstance(self.l1, Tensor):
            return self.l1
        return torch.full_like(self.target_square, self.l1)

    @property
    def is_penalised(self) -> bool:
        """Whether λ > 0: of every row, or of none."""
        return isinstance(self.l1, Tensor) or self.l1 > 0

    @property
    def row_lambda_max(self) -> Tensor:
        """Smallest λ_i for which a row's all-zero weights are optimal: max |h_i| (rows,)."""
        return self.cross.abs().amax(dim=1)

    @property
    def lambda_max(self) -> float:
        """Smallest λ for which all-zero weights of all rows are optimal: max |H|.

        At w = 0 the gradient is −h, and the budget (radius > 0) is slack there, so it changes
        nothing; nor does the elastic net.
        """
        mine = float(self.cross.abs().max()) if self.rows else 0.0
        return self.partition.largest(mine)

    @property
    def hessian(self) -> Tensor:
        """G + l2·I (D, D): the elastic net is least squares with D more samples √l2·I."""
        if self.l2 == 0:
            return self.gram
        shifted = self.gram.clone()
        shifted.diagonal().add_(self.l2)
        return shifted

    def scaled_gram(self, cost: Tensor) -> Tensor:
        """The columns held of diag(cost) (G + l2·I) diag(cost), cost (D,)."""
        return self.hessian * cost[:, None] * cost

    def multiply(self, weights: Tensor) -> Tensor:
        """W (G + l2·I) (rows, D)."""
        return weights @ self.hessian

    def multiply_shared(self, vector: Tensor) -> Tensor:
        """V (G + l2·I) of one vector (D,), the same in all processes that hold the problem."""
        return self.hessian @ vector

    @property
    def feature_squares(self) -> Tensor:
        """The diagonal of G + l2·I (D,)."""
        return self.gram.diagonal() + self.l2

    @cached_property
    def accurate(self) -> RowRegression:
        """The problem of shifted features and targets, unpenalised; itself where none are."""
        if self.shift is None:
            return self
        return replace(
            self,
            gram=self.shift.gram,
            cross=self.shift.cross,
            target_square=self.shift.target_square,
            l1=0.0,
            budget=None,
            shift=None,
        )

    @cached_property
    def row_space(self) -> RowSpace:
        """What measures gradients by ½ gᵀ(G + l2·I)⁺g; a factorisation when first asked for."""
        return RowSpace(self.hessian, self.feature_squares)

    def select(self, rows: Tensor) -> RowRegression:
        """The problem of some rows only (index or mask)."""
        part = replace(
            self,
            cross=self.cross[rows],
            target_square=self.target_square[rows],
            l1=self.l1[rows] if isinstance(self.l1, Tensor) else self.l1,
            shift=None if self.shift is None else self.shift.select(rows),
            nonzeros=None if self.nonzeros is None else self.nonzeros[rows],
        )
        if "row_space" in vars(self):
            vars(part)["row_space"] = self.row_space  # of G alone
        return part

    def row_norms(self, weights: Tensor) -> Tensor:
        """‖w[:count]‖₁ of every row (rows,); zeros when there is no budget."""
        count = 0 if self.budget is None else self.budget.count
        return weights[:, :count].abs().sum(dim=1)
