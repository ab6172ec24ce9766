"""A network as the graph of torch's operations, gone through on values of any kind."""

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

_CONTROL_FLOW = "get value out of a tracing tensor"


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


def traced(network: nn.Module, sample: Tensor) -> tuple[fx.GraphModule, Modules]:
    """Trace a network in evaluation mode, down to torch's operations.

    Args:
        network: left as it is.
        sample: a batch (m, ...) of its inputs.

    Raises:
        UnsupportedModelError: it cannot be traced; the message names the module.
    """
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
        where = place_of(stack[-1] if stack else "", network)
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


def place_of(path: str, network: nn.Module) -> str:
    """The module at a path, for people."""
    module = network.get_submodule(path)
    return f"module {path!r} ({type(module).__name__})" if path else f"{type(module).__name__}"


class Refused(Exception):
    """An operation without a place.

    Args:
        number: of its node.
        operation: its name.
        why: it has none.
    """

    def __init__(self, number: int, operation: str, why: str) -> None:
        super().__init__(why)
        self.number = number
        self.operation = operation


@dataclass(frozen=True, eq=False)
class Values:
    """The kind of values that a graph is gone through on.

    Attributes:
        kind: class of what depends on the input.
        operations: by the name of the ATen operation, ``(context, *arguments)`` to such values.
        context: first argument of all of them.
        unknown: why an operation that is not among them has no place.
        entered: told the path of the module that each operation stands in, before it.
    """

    kind: type
    operations: Mapping[str, Callable[..., Any]]
    context: object
    unknown: str
    entered: Callable[[str], None] | None = None


def interpreted(graph: fx.GraphModule, modules: Modules, source: object, values: Values) -> Any:
    """The output of a graph; what it does not depend on is left out.

    Args:
        graph: traced.
        modules: where its operations stand.
        source: the value of its input.
        values: what its operations work on.

    Raises:
        Refused: an operation has no place.
    """
    _name_softsign(graph.graph)
    nodes = list(graph.graph.nodes)
    needed = {nodes[-1]}
    for node in reversed(nodes):
        if node in needed:
            needed.update(node.all_input_nodes)
    known: dict[fx.Node, Any] = {}
    for number, node in enumerate(nodes):
        if node.op == "placeholder":
            known[node] = source
        elif node not in needed:
            continue
        elif node.op == "get_attr":
            known[node] = operator.attrgetter(str(node.target))(graph)
        elif node.op == "call_function":
            arguments, named = fx.map_arg((node.args, node.kwargs), known.__getitem__)
            if values.entered is not None:
                values.entered(modules.at(number))
            try:
                known[node] = _applied(node, arguments, named, values)
            except UnsupportedModelError as error:
                raise Refused(number, _operation(node), str(error)) from error
    return fx.map_arg(nodes[-1].args[0], known.__getitem__)


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


def _applied(node: fx.Node, arguments: Any, named: Any, values: Values) -> Any:
    if not any(isinstance(each, values.kind) for each in _flat((arguments, named))):
        assert callable(node.target)
        return node.target(*arguments, **named)
    name = _operation(node)
    if node.target is operator.getitem:
        several, index = arguments
        if index >= len(several):
            raise UnsupportedModelError("the places of its maxima are used")
        return several[index]
    if name not in values.operations:
        raise UnsupportedModelError(values.unknown)
    return values.operations[name](values.context, *_positional(node, arguments, named))


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
