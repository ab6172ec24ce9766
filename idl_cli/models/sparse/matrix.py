"""A matrix of few non-zeros in compressed rows, as a part of a model."""

from __future__ import annotations

import warnings

import numpy as np
import scipy.sparse
import torch
from torch import Tensor, nn

from idl_cli.errors import ArgumentError


class SparseMatrix(nn.Module):
    """A matrix (rows, columns) by its non-zeros in compressed rows (CSR).

    Where they are is a buffer; what they are is a parameter, or with ``quantized`` 8-bit codes with
    one step a row: value = code · step, |code| ≤ 127.

    Args:
        rows: of the matrix.
        columns: of the matrix.
        nonzeros: entries that are stored, k.
        quantized: whether they are stored in 8 bits.

    Raises:
        ArgumentError: more entries than 32-bit indices can count.
    """

    starts: Tensor
    indices: Tensor
    codes: Tensor

    def __init__(self, rows: int, columns: int, nonzeros: int, *, quantized: bool = False) -> None:
        super().__init__()
        if max(rows, columns, nonzeros) >= 2**31 - 1:
            raise ArgumentError(
                f"a matrix ({rows}, {columns}) of {nonzeros:,} non-zeros is beyond 32-bit indices"
            )
        self.shape = (rows, columns)
        self.quantized = quantized
        self.register_buffer("starts", torch.zeros(rows + 1, dtype=torch.int32))
        self.register_buffer("indices", torch.zeros(nonzeros, dtype=torch.int32))
        if quantized:
            self.register_buffer("codes", torch.zeros(nonzeros, dtype=torch.int8))
            self.step = nn.Parameter(torch.zeros(rows))
        else:
            self.stored = nn.Parameter(torch.zeros(nonzeros))

    @classmethod
    def of(
        cls, matrix: scipy.sparse.csr_matrix, dtype: torch.dtype, *, quantized: bool = False
    ) -> SparseMatrix:
        """Make one of a SciPy matrix, whose explicit zeros are dropped."""
        matrix = scipy.sparse.csr_matrix(matrix, copy=True)
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        rows, columns = matrix.shape
        made = cls(rows, columns, matrix.nnz, quantized=quantized).to(dtype)
        made.starts.copy_(torch.from_numpy(matrix.indptr.astype(np.int32)))
        made.indices.copy_(torch.from_numpy(matrix.indices.astype(np.int32)))
        values = torch.from_numpy(np.ascontiguousarray(matrix.data)).to(dtype)
        with torch.no_grad():
            if quantized:
                largest = values.new_zeros(matrix.shape[0])
                largest.scatter_reduce_(0, made.row_of_entry(), values.abs(), "amax")
                made.step.copy_(largest / 127)
                step = made.step[made.row_of_entry()]
                made.codes.copy_(torch.where(step > 0, values / step, 0.0).round())
            else:
                made.stored.copy_(values)
        return made

    @property
    def nonzeros(self) -> int:
        """Number of stored entries k."""
        return len(self.indices)

    @property
    def values(self) -> Tensor:
        """The entries (k,), in use."""
        if self.quantized:
            return self.codes.to(self.step.dtype) * self.step[self.row_of_entry()]
        return self.stored

    @property
    def bytes(self) -> int:
        """Memory of entries and places."""
        tensors = [*self.parameters(), *self.buffers()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def row_of_entry(self) -> Tensor:
        """The row of each entry (k,) int64."""
        rows = torch.arange(self.shape[0], device=self.starts.device)
        return rows.repeat_interleave(self.starts.diff())

    @torch.no_grad()
    def row_l1_norms(self) -> Tensor:
        """Σ_j |a_ij| of each row, in float64 (rows,)."""
        norms = torch.zeros(self.shape[0], dtype=torch.float64, device=self.starts.device)
        return norms.index_add_(0, self.row_of_entry(), self.values.detach().abs().double())

    @torch.no_grad()
    def to_scipy(self) -> scipy.sparse.csr_matrix:
        """A copy in float64."""
        values = self.values.detach().double().cpu().numpy().copy()
        places = (self.indices.cpu().numpy().copy(), self.starts.cpu().numpy().copy())
        return scipy.sparse.csr_matrix((values, *places), shape=self.shape)

    def forward(self, x: Tensor) -> Tensor:
        """The product with x (columns, m): (rows, m)."""
        product: Tensor = _Product.apply(self.values, x, self)  # type: ignore[no-untyped-call]
        return product


def compressed(starts: Tensor, indices: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A torch CSR tensor on these very tensors."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(starts, indices, values, shape, check_invariants=False)


def transposed(starts: Tensor, indices: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """The transpose of ``compressed``, on these very tensors; ``shape`` is of the matrix."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CS[RC] tensor support is in beta")
        turned = (shape[1], shape[0])
        return torch.sparse_csc_tensor(starts, indices, values, turned, check_invariants=False)


def entry_gradients(matrix: SparseMatrix, v: Tensor, x: Tensor) -> Tensor:
    """Σ_samples v_i x_j at the entries (i, j) of a matrix (k,): v (rows, m), x (columns, m)."""
    rows, columns = matrix.row_of_entry(), matrix.indices.long()
    size = max(1, 2**24 // max(1, v.shape[1]))  # 2²⁴ products at a time: 128 MB in float64
    parts = zip(torch.split(rows, size), torch.split(columns, size), strict=True)
    return torch.cat([(v[i] * x[j]).sum(dim=1) for i, j in parts])


class _Product(torch.autograd.Function):
    """A x, with its gradient in x and in the entries of A."""

    @staticmethod
    def forward(ctx, values: Tensor, x: Tensor, matrix: SparseMatrix) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.matrix = matrix
        ctx.save_for_backward(values, x)
        return compressed(matrix.starts, matrix.indices, values, matrix.shape) @ x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor):  # type: ignore[no-untyped-def]
        values, x = ctx.saved_tensors
        matrix, gradient = ctx.matrix, gradient.contiguous()
        of_values = of_x = None
        if ctx.needs_input_grad[0]:
            of_values = entry_gradients(matrix, gradient, x)
        if ctx.needs_input_grad[1]:
            turned = transposed(matrix.starts, matrix.indices, values, matrix.shape)
            of_x = turned @ gradient
        return of_values, of_x, None
