"""An implicit model whose matrices are sparse and whose A is strictly block triangular."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import scipy.sparse
import torch
from torch import Tensor, nn

from idl_cli.equilibrium.activations import get_activation
from idl_cli.errors import ArgumentError, UnsupportedModelError
from idl_cli.json_value import JSONValue
from idl_cli.models.base import TrainableModel, flat_inputs
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.sparse.matrix import SparseMatrix
from idl_cli.models.sparse.sweep import Block, solve
from idl_cli.models.sparse.weights import SparseWeights

_DENSE_ENTRIES = 2**28
"""Beyond as many entries (1 GB in float32) a matrix is not made dense."""


class SparseImplicitModel(TrainableModel):
    """x = φ(Ax + Bu + b), ŷ = Cx + Du + c, with A, B, C, D by their non-zeros.

    The states stand in blocks, the last evaluated first; a block depends on those after it alone,
    so that one sweep from the last block to the first is the equilibrium, exactly. Each block has
    its own activation. A feed-forward network is such a model ([IDL] El Ghaoui et al., SIAM J.
    Math. Data Sci. 3(3), 2021, section 3). Trained, it keeps its zeros.

    Args:
        input_dim: p; the product of the trailing dimensions of the input.
        output_dim: q.
        sparse_structure: ``sizes``, states of each block, the last evaluated first, n in all;
            ``activations``, the name of each block's φ; ``nonzeros``, stored entries of ``A``,
            ``B``, ``C`` and ``D``; ``quantized``, whether entries are stored in 8 bits with one
            step a row.

    Raises:
        ArgumentError: sizes and activations are not as many, or a name is unknown.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        *,
        sparse_structure: Mapping[str, Any],
    ) -> None:
        super().__init__()
        sizes: Sequence[int] = sparse_structure["sizes"]
        activations: Sequence[str] = sparse_structure["activations"]
        nonzeros: Mapping[str, int] = sparse_structure["nonzeros"]
        quantized = bool(sparse_structure["quantized"])
        if len(sizes) != len(activations) or any(size < 1 for size in sizes):
            raise ArgumentError(
                f"sizes={list(sizes)} and activations={list(activations)} must be as many, one "
                "positive size and one name a block"
            )
        self.input_dim, self.output_dim = input_dim, output_dim
        self.sizes, self.quantized = tuple(sizes), quantized
        self.hidden_dim = n = sum(sizes)
        ends = list(accumulate(sizes))
        self.blocks = tuple(
            Block(end - size, end, get_activation(name))
            for end, size, name in zip(ends, sizes, activations, strict=True)
        )
        shapes = {
            "A": (n, n),
            "B": (n, input_dim),
            "C": (output_dim, n),
            "D": (output_dim, input_dim),
        }
        made = {
            name: SparseMatrix(*shape, nonzeros[name], quantized=quantized)
            for name, shape in shapes.items()
        }
        self.A, self.B, self.C, self.D = made.values()
        self.state_bias = nn.Parameter(torch.zeros(n))
        self.output_bias = nn.Parameter(torch.zeros(output_dim))

    @classmethod
    def from_weights(
        cls, weights: SparseWeights, dtype: torch.dtype, *, quantized: bool = False
    ) -> SparseImplicitModel:
        """Make a model of given weights, rounded to ``dtype``.

        Raises:
            ArgumentError: a block of A depends on itself or on one before it.
        """
        weights.check_triangular()
        matrices = {
            name: SparseMatrix.of(getattr(weights, name), dtype, quantized=quantized)
            for name in ("A", "B", "C", "D")
        }
        model = cls(
            weights.B.shape[1],
            weights.C.shape[0],
            sparse_structure={
                "sizes": weights.sizes,
                "activations": weights.activations,
                "nonzeros": {name: each.nonzeros for name, each in matrices.items()},
                "quantized": quantized,
            },
        ).to(dtype)
        for name, matrix in matrices.items():
            setattr(model, name, matrix)
        with torch.no_grad():
            model.state_bias.copy_(torch.from_numpy(weights.state_bias))
            model.output_bias.copy_(torch.from_numpy(weights.output_bias))
        return model

    def forward(self, inputs: Tensor) -> Tensor:
        """Predict.

        Args:
            inputs: u (m, ...), trailing dimensions flattened to p; dtype of the parameters.

        Returns:
            ŷ (m, q).

        Raises:
            ShapeError: the input has another size or dtype.
        """
        u = self._state_major(inputs)
        x = self._states(u)
        prediction: Tensor = self.C(x) + self.D(u) + self.output_bias[:, None]
        return prediction.t()

    def equilibrium(self, inputs: Tensor) -> Tensor:
        """Return the equilibrium states x (m, n) of the inputs, as for the prediction."""
        return self._states(self._state_major(inputs)).t()

    def _states(self, u: Tensor) -> Tensor:
        return solve(self.A, self.B(u) + self.state_bias[:, None], self.blocks)

    def _state_major(self, inputs: Tensor) -> Tensor:
        dtype = self.state_bias.dtype
        u = flat_inputs(inputs, self.input_dim, dtype).to(dtype)
        return u.t().contiguous()

    @property
    def activations(self) -> tuple[str, ...]:
        """The name of each block's activation."""
        return tuple(block.activation.name for block in self.blocks)

    @property
    def nonzeros(self) -> dict[str, int]:
        """Stored entries of each matrix."""
        return {name: getattr(self, name).nonzeros for name in ("A", "B", "C", "D")}

    @property
    def bytes(self) -> int:
        """Memory of parameters and places."""
        tensors = [*self.parameters(), *self.buffers()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def inf_norm_A(self) -> float:
        """Return ‖A‖∞."""
        return float(self.A.row_l1_norms().max())

    @torch.no_grad()
    def weights(self) -> SparseWeights:
        """The weights in use, in float64."""
        return SparseWeights(
            A=self.A.to_scipy(),
            B=self.B.to_scipy(),
            C=self.C.to_scipy(),
            D=self.D.to_scipy(),
            state_bias=self.state_bias.detach().double().cpu().numpy(),
            output_bias=self.output_bias.detach().double().cpu().numpy(),
            sizes=self.sizes,
            activations=self.activations,
        )

    @torch.no_grad()
    def to_dense(self) -> ImplicitModel:
        """The same model with full matrices, for n of some thousands.

        Raises:
            UnsupportedModelError: its blocks have several activations, or A would not fit.
        """
        names = set(self.activations)
        if len(names) > 1:
            raise UnsupportedModelError(
                f"the states have several activations ({', '.join(sorted(names))}); a model with "
                "full matrices has one"
            )
        if self.hidden_dim**2 > _DENSE_ENTRIES:
            raise UnsupportedModelError(f"A ({self.hidden_dim:,} states) is too large to be dense")
        weights = self.weights()

        def dense(matrix: scipy.sparse.csr_matrix) -> Tensor:
            return torch.from_numpy(matrix.toarray()).to(self.state_bias.dtype)

        return ImplicitModel.from_weights(
            *(dense(getattr(weights, name)) for name in ("A", "B", "C", "D")),
            state_bias=self.state_bias,
            output_bias=self.output_bias,
            activation=self.activations[0],
            well_posedness="triangular",
        )

    def constructor_arguments(self) -> dict[str, JSONValue]:
        """Return the keyword arguments that make a model of this architecture again."""
        return {
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "sparse_structure": {
                "sizes": list(self.sizes),
                "activations": list(self.activations),
                "nonzeros": dict(self.nonzeros),
                "quantized": self.quantized,
            },
        }

    def extra_repr(self) -> str:
        """Return what ``print(model)`` shows."""
        return (
            f"input_dim={self.input_dim}, output_dim={self.output_dim}, "
            f"hidden_dim={self.hidden_dim}, blocks={len(self.blocks)}, nonzeros={self.nonzeros}"
        )
