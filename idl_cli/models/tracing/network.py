"""Any network of affine maps, activations and maxima as an exact sparse implicit model."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode, make_fx
from torch.nn import functional

from idl_cli.errors import UnsupportedModelError
from idl_cli.models.sparse.model import SparseImplicitModel
from idl_cli.models.tracing.expressions import Expression, States
from idl_cli.models.tracing.moves import SAMPLES
from idl_cli.models.tracing.operations.table import OPERATIONS

_CONTROL_FLOW = "get value out of a tracing tensor"


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
    graph, modules = _traced(network, sample.to(device=device, dtype=dtype))
    states = States(input_shape, dtype)
    try:
        model = states.model(_interpreted(graph, modules, states)).to(device)
    except _Refused as refused:
        where = _place(modules.at(refused.number), network)
        raise UnsupportedModelError(f"{where}: {refused}") from refused.__cause__
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


@dataclass(frozen=True)
class Modules:
    """Which module each operation of a graph stands in.

    Attributes:
        marks: number of the graph's nodes at each entry to and exit from a module, and the path
            of the module that runs from there on.
    """

    marks: list[tuple[int, str]]

    def at(self, node: int) -> str:
        """The path of the module that made the node with this number."""
        path = ""
        for begin, name in self.marks:
            if begin > node:
                break
            path = name
        return path


def _dtype(network: nn.Module) -> torch.dtype:
    dtypes = {each.dtype for each in network.parameters() if each.is_floating_point()}
    if len(dtypes) > 1 or not dtypes <= {torch.float32, torch.float64}:
        names = ", ".join(sorted(map(str, dtypes)))
        raise UnsupportedModelError(
            f"the network's parameters are {names}; a model has one dtype, float32 or float64"
        )
    return dtypes.pop() if dtypes else torch.get_default_dtype()


def _traced(network: nn.Module, sample: Tensor) -> tuple[fx.GraphModule, Modules]:
    names = {module: name for name, module in network.named_modules()}
    stack: list[str] = []
    marks: list[tuple[int, str]] = []

    def mark() -> None:
        mode = get_proxy_mode()
        if mode is not None:
            marks.append((len(mode.tracer.graph.nodes), stack[-1] if stack else ""))

    def enter(module: nn.Module, _: object) -> None:
        stack.append(names[module])
        mark()

    def leave(*_: object) -> None:
        stack.pop()
        mark()

    handles = [each.register_forward_pre_hook(enter) for each in names]
    handles += [each.register_forward_hook(leave) for each in names]
    try:
        with torch.no_grad(), evaluating(network):
            return make_fx(network, pre_dispatch=True)(sample), Modules(marks)
    except Exception as error:  # a user's forward may raise anything
        text = str(error).strip().partition("\n")[0]
        if _CONTROL_FLOW in text:
            text = "its control flow depends on the data"
        where = _place(stack[-1] if stack else "", network)
        raise UnsupportedModelError(f"{where} cannot be traced: {text}") from error
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards the mode that each module was in."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _place(path: str, network: nn.Module) -> str:
    module = network.get_submodule(path)
    return f"module {path!r} ({type(module).__name__})" if path else f"{type(module).__name__}"


class _Refused(Exception):
    """An operation without an exact form.

    Args:
        number: of its node.
        message: which operation, and why.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


def _interpreted(graph: fx.GraphModule, modules: Modules, states: States) -> Expression:
    """The output of a graph; what it does not depend on is left out."""
    _name_softsign(graph.graph)
    nodes = list(graph.graph.nodes)
    needed = {nodes[-1]}
    for node in reversed(nodes):
        if node in needed:
            needed.update(node.all_input_nodes)
    known: dict[fx.Node, Any] = {}
    for number, node in enumerate(nodes):
        if node.op == "placeholder":
            known[node] = states.input
        elif node not in needed:
            continue
        elif node.op == "get_attr":
            known[node] = operator.attrgetter(str(node.target))(graph)
        elif node.op == "call_function":
            arguments, named = fx.map_arg((node.args, node.kwargs), known.__getitem__)
            try:
                known[node] = _applied(node, arguments, named, states)
            except UnsupportedModelError as error:
                message = f"{_operation(node)} has no exact form: {error}"
                raise _Refused(number, message) from error
    found = fx.map_arg(nodes[-1].args[0], known.__getitem__)
    if not isinstance(found, Expression):
        raise UnsupportedModelError(
            f"the network returns a {type(found).__name__}; an implicit model predicts one tensor "
            "that depends on the input"
        )
    return found


def _name_softsign(graph: fx.Graph) -> None:
    """Torch computes softsign as z / (1 + |z|), a quotient of values of the input: name it."""
    for node in graph.nodes:
        if node.op != "call_function" or _operation(node) != "div" or len(node.args) != 2:
            continue
        value, divisor = node.args
        if not isinstance(divisor, fx.Node) or _operation(divisor) != "add":
            continue
        size = divisor.args[0]
        if divisor.args[1:] != (1,) or not isinstance(size, fx.Node) or size.args != (value,):
            continue
        if _operation(size) == "abs":
            node.target, node.args = functional.softsign, (value,)


def _applied(node: fx.Node, arguments: Any, named: Any, states: States) -> Any:
    if not any(isinstance(each, Expression) for each in _flat((arguments, named))):
        assert callable(node.target)
        return node.target(*arguments, **named)
    name = _operation(node)
    if node.target is operator.getitem:
        values, index = arguments
        if index >= len(values):
            raise UnsupportedModelError("the places of its maxima are used")
        return values[index]
    if name not in OPERATIONS:
        raise UnsupportedModelError("it is neither affine, nor an activation, nor a maximum")
    return OPERATIONS[name](states, *_positional(node, arguments, named))


def _positional(node: fx.Node, arguments: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
    """All arguments in the order of the operation's schema, defaults between them."""
    if not named:
        return list(arguments)
    rest = node.target._schema.arguments[len(arguments) :]  # type: ignore[union-attr]
    last = max(place for place, each in enumerate(rest) if each.name in named)
    return [
        *arguments,
        *(named.get(each.name, each.default_value) for each in rest[: last + 1]),
    ]


def _operation(node: fx.Node) -> str:
    name = getattr(node.target, "overloadpacket", node.target)
    text = str(getattr(name, "__name__", name)).removeprefix("aten.")
    return text.rstrip("_") or text


def _flat(values: Any) -> Iterator[Any]:
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, list | tuple):
        for each in values:
            yield from _flat(each)
    else:
        yield values
