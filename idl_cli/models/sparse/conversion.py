"""An implicit model with full matrices as a sparse one, and a sparse one as layers."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import scipy.sparse
import torch
from torch import nn

from idl_cli.errors import UnsupportedModelError
from idl_cli.models.activation_modules import activation_module
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.sparse.model import SparseImplicitModel
from idl_cli.models.sparse.scaling import is_acyclic
from idl_cli.models.sparse.weights import SparseWeights


def weights_of(model: ImplicitModel) -> SparseWeights:
    """The weights in use by their non-zeros, all states in one block."""
    found = model.effective_weights()

    def sparse(name: str) -> scipy.sparse.csr_matrix:
        return scipy.sparse.csr_matrix(getattr(found, name).double().cpu().numpy())

    return SparseWeights(
        A=sparse("A"),
        B=sparse("B"),
        C=sparse("C"),
        D=sparse("D"),
        state_bias=found.state_bias.double().cpu().numpy(),
        output_bias=found.output_bias.double().cpu().numpy(),
        sizes=(model.hidden_dim,),
        activations=(model.activation.name,),
    )


def in_levels(weights: SparseWeights) -> SparseWeights:
    """The same model with its states in blocks of which each depends on those after it alone.

    Raises:
        UnsupportedModelError: a state feeds back on itself: no order of the states does it.
    """
    if not is_acyclic(weights.A):
        raise UnsupportedModelError(
            "a state feeds back on itself: the model is no feed-forward network"
        )
    links = weights.A.copy()
    links.data = np.ones_like(links.data)
    level = np.zeros(links.shape[0], dtype=np.int64)
    feeding = links.tocsr()
    while True:  # the longest chain that leads to each state
        longest = np.zeros_like(level)
        np.maximum.at(longest, _rows(feeding), level[feeding.indices] + 1)
        if np.array_equal(longest, level):
            break
        level = longest
    kinds = np.repeat(np.arange(len(weights.sizes)), weights.sizes)
    names = np.array(weights.activations)[kinds]
    order = np.lexsort((np.arange(len(level)), names, -level))
    keys = list(zip(level[order], names[order], strict=True))
    borders = [0, *(i for i in range(1, len(keys)) if keys[i] != keys[i - 1]), len(keys)]
    return SparseWeights(
        A=weights.A[order][:, order].tocsr(),
        B=weights.B[order].tocsr(),
        C=weights.C[:, order].tocsr(),
        D=weights.D,
        state_bias=weights.state_bias[order],
        output_bias=weights.output_bias,
        sizes=tuple(np.diff(borders).tolist()),
        activations=tuple(str(keys[begin][1]) for begin in borders[:-1]),
    )


def _rows(matrix: scipy.sparse.csr_matrix) -> np.ndarray:
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def to_sequential(model: ImplicitModel | SparseImplicitModel) -> nn.Sequential:
    """A block triangular implicit model as a stack of linear layers and activations.

    Where each block depends on the one after it alone, the layers are those blocks. Where values
    skip a block (residual additions, a D), layers carry them on: twice, as relu(v) − relu(−v),
    beside relu; as they are beside identity.

    Args:
        model: whose A is triangular, in some order of the states.

    Returns:
        Linear layers with dense weights and activation modules between, in the model's dtype.

    Raises:
        UnsupportedModelError: a state feeds back on itself, an activation has no module, blocks of
            one level have several activations, or values skip a block whose activation cannot carry
            them (relu and leaky_relu can).
    """
    given = model.weights() if isinstance(model, SparseImplicitModel) else weights_of(model)
    weights = in_levels(given)
    dtype = next(model.parameters()).dtype
    return _layers(weights, dtype)


def _layers(weights: SparseWeights, dtype: torch.dtype) -> nn.Sequential:
    ends = weights.ends.tolist()
    blocks = [
        (end - size, end, name)
        for end, size, name in zip(ends, weights.sizes, weights.activations, strict=True)
    ][::-1]
    inputs, states = weights.B.shape[1], weights.A.shape[0]
    # Every matrix over [u, x], x in the model's order; biases beside.
    everything = scipy.sparse.hstack([weights.B, weights.A], "csr")
    output = scipy.sparse.hstack([weights.D, weights.C], "csr")
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    # The value at each place of the present layer as coefficients of [u, x].
    known = np.arange(inputs)
    decode = np.eye(inputs)
    for number, (begin, end, name) in enumerate(blocks):
        later = scipy.sparse.vstack([everything[:begin], output], "csr")
        used = np.zeros(inputs + states, dtype=bool)
        used[later.indices] = True
        carried = np.array([each for each in known if used[each]], dtype=np.int64)
        own = everything[begin:end][:, known].toarray() @ decode
        passed = _selection(known, carried) @ decode
        rows, bias, decoder = _with_carried(own, passed, weights.state_bias[begin:end], name)
        layers[f"linear{number}"] = _linear(rows, bias, dtype)
        layers[f"activation{number}"] = activation_module(name)
        known = np.concatenate([inputs + np.arange(begin, end), carried])
        decode = decoder
    final = output[:, known].toarray() @ decode
    layers[f"linear{len(blocks)}"] = _linear(final, weights.output_bias, dtype)
    return nn.Sequential(layers)


def _selection(known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    rows: np.ndarray = (known[None, :] == wanted[:, None]).astype(float)
    return rows


def _with_carried(
    own: np.ndarray, passed: np.ndarray, bias: np.ndarray, name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows and biases of a layer, and what gives its own and the carried values back."""
    count, carried = len(own), len(passed)
    if carried == 0:
        return own, bias, np.eye(count)
    slope = {"relu": 0.0, "leaky_relu": 0.01}.get(name)
    if slope is None:
        raise UnsupportedModelError(
            f"values skip a block with the activation {name}, which cannot carry them on; a "
            "Sequential has no other way past it"
        )
    rows = np.concatenate([own, passed, -passed])
    decode = np.zeros((count + carried, count + 2 * carried))
    decode[:count, :count] = np.eye(count)
    # φ(v) − φ(−v) = (1 + slope) v
    decode[count:, count : count + carried] = np.eye(carried) / (1 + slope)
    decode[count:, count + carried :] = -np.eye(carried) / (1 + slope)
    return rows, np.concatenate([bias, np.zeros(2 * carried)]), decode


def _linear(weight: np.ndarray, bias: np.ndarray, dtype: torch.dtype) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=dtype)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))
    return layer
