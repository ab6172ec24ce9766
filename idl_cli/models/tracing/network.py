"""Any network of affine maps, activations and maxima as an exact sparse implicit model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from idl_cli.errors import UnsupportedModelError
from idl_cli.models.sparse.model import SparseImplicitModel
from idl_cli.models.tracing.expressions import Expression, States
from idl_cli.models.tracing.graph import (
    Refused,
    Values,
    evaluating,
    interpreted,
    place_of,
    traced,
)
from idl_cli.models.tracing.moves import SAMPLES
from idl_cli.models.tracing.operations.table import OPERATIONS


def from_network(network: nn.Module, input_shape: Sequence[int]) -> SparseImplicitModel:
    """The exact implicit form of a network, sparse and strictly block triangular.

    The network is traced with ``torch.fx`` in evaluation mode, down to torch's operations, so
    functional code and modules of any nesting work. Linear layers, convolutions, batch
    normalisation, averages, sums, concatenations and moves of entries become the coefficients of
    A, B, C and D; each activation becomes a block of states. A maximum is
    max(a, b) = b + relu(a − b), so pooling is exact too. Weights are composed in float64 and
    rounded once to the network's dtype.

    Args:
        network: takes a batch (m, *input_shape) and returns a tensor (m, …), whose entries are the
            model's outputs; left as it is.
        input_shape: shape of one sample.

    Raises:
        UnsupportedModelError: an operation has no exact form; the message names it and the module
            in which it stands.
    """
    dtype = _dtype(network)
    device = next((each.device for each in network.parameters()), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(SAMPLES, *input_shape, generator=generator, dtype=torch.float64)
    graph, modules = traced(network, sample.to(device=device, dtype=dtype))
    states = States(input_shape, dtype)
    values = Values(
        Expression,
        OPERATIONS,
        states,
        unknown="it is neither affine, nor an activation, nor a maximum",
    )
    try:
        found = interpreted(graph, modules, states.input, values)
    except Refused as refused:
        where = place_of(modules.at(refused.number), network)
        raise UnsupportedModelError(
            f"{where}: {refused.operation} has no exact form: {refused}"
        ) from refused.__cause__
    if not isinstance(found, Expression):
        raise UnsupportedModelError(
            f"the network returns a {type(found).__name__}; an implicit model predicts one tensor "
            "that depends on the input"
        )
    model = states.model(found).to(device)
    with evaluating(network):
        check_same(network, model, sample.to(device=device, dtype=dtype))
    return model


@torch.no_grad()
def check_same(network: Callable[[Tensor], Tensor], model: nn.Module, sample: Tensor) -> None:
    """Compare on a few inputs: a trace does not see what a module keeps from call to call.

    Args:
        network: that was converted.
        model: its implicit form.
        sample: (m, *input_shape).

    Raises:
        UnsupportedModelError: they do not agree up to rounding.
    """
    expected, found = network(sample).flatten(1), model(sample)
    # Sums of up to thousands of terms in another order, layer after layer.
    tolerance = 1e4 * torch.finfo(found.dtype).eps * max(1.0, float(expected.abs().max()))
    same = expected.shape == found.shape
    if not same or not bool(((expected - found).abs() <= tolerance).all()):
        apart = f"{float((expected - found).abs().max()):.3g}" if same else "in their shape"
        raise UnsupportedModelError(
            f"{type(network).__name__} does not compute what its trace says (in-place changes of "
            "parts of a value, or a state of its own): its implicit form would predict otherwise, "
            f"by {apart} on random inputs"
        )


def _dtype(network: nn.Module) -> torch.dtype:
    dtypes = {each.dtype for each in network.parameters() if each.is_floating_point()}
    if len(dtypes) > 1 or not dtypes <= {torch.float32, torch.float64}:
        names = ", ".join(sorted(map(str, dtypes)))
        raise UnsupportedModelError(
            f"the network's parameters are {names}; a model has one dtype, float32 or float64"
        )
    return dtypes.pop() if dtypes else torch.get_default_dtype()
