"""The equations of a model as ONNX nodes: fixed steps, exact sweeps, or a loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from onnx import TensorProto, helper
from torch import nn

from idl_cli.data.files.npy_format import Array
from idl_cli.export.deployment import Deployment
from idl_cli.export.equations import Changes, Implicit, Layers, Recurrent
from idl_cli.export.error_bound import ErrorBound, least_change
from idl_cli.export.formats.onnx_graph import Graph

_MANY: Final = 16  # blocks above which states are gathered in one tensor as they are found


def input_nodes(graph: Graph, deployment: Deployment, raw: str) -> str:
    """The preprocessing: raw samples to the model's inputs, rounded as the run rounds them."""
    preprocessing, kind = deployment.preprocessing, deployment.raw_dtype
    wide = np.dtype(np.float64)
    exact = kind == wide and preprocessing.normalize != "none"
    within = wide if exact else graph.dtype
    x = graph.cast(raw, within) if within != kind else raw
    if preprocessing.divisor != 1.0:
        x = graph.add("Div", x, graph.constant(np.array(preprocessing.divisor, dtype=within)))
    if preprocessing.normalize != "none":
        mean, std = (
            np.array(entries, dtype=within).reshape(preprocessing.statistics_shape)
            for entries in (preprocessing.mean, preprocessing.std)
        )
        x = graph.add("Div", graph.add("Sub", x, graph.constant(mean)), graph.constant(std))
    return graph.cast(x, graph.dtype) if exact and within != graph.dtype else x


def changes_of(graph: Graph, inputs: str, changes: Changes, steps: int) -> str:
    """First differences of windows (N, steps, features) in units of their spread."""
    first = _slice(graph, inputs, 0, 1)
    before = first
    if steps > 1:
        before = graph.add(
            "Concat", first, _slice(graph, inputs, 0, steps - 1), attributes={"axis": 1}
        )
    scale = graph.constant(changes.input_scale.astype(graph.dtype))
    return graph.add("Div", graph.add("Sub", inputs, before), scale)


def from_changes(graph: Graph, inputs: str, predicted: str, changes: Changes, steps: int) -> str:
    """The last value plus the predicted change."""
    row = graph.add("Squeeze", _slice(graph, inputs, steps - 1, steps), graph.constant([1]))
    last = graph.add("Gather", row, graph.constant([changes.target]), attributes={"axis": 1})
    mean, scale = (
        graph.constant(each.astype(graph.dtype)) for each in (changes.mean, changes.scale)
    )
    moved = graph.add("Add", mean, graph.add("Mul", scale, predicted))
    return graph.add("Add", last, moved)


def layer_nodes(graph: Graph, equations: Layers, inputs: str) -> str:
    """A network without feedback; inputs are flattened first."""
    x = graph.add("Flatten", inputs, attributes={"axis": 1})
    affine = [each for each in equations.modules if not isinstance(each, nn.Unflatten)]
    for index, module in enumerate(equations.modules):
        name = f"layer_{index}"
        if isinstance(module, nn.Unflatten):
            x = graph.add("Reshape", x, graph.constant([-1, *module.unflattened_size]))
            continue
        assert isinstance(module, nn.Linear | nn.Conv2d)
        weight = module.weight.detach().numpy()
        bias = None if module.bias is None else module.bias.detach().numpy()
        if isinstance(module, nn.Linear):
            x = graph.affine(graph.add("Flatten", x, attributes={"axis": 1}), weight, bias, name)
        else:
            biases = [] if bias is None else [graph.constant(bias, f"{name}.bias")]
            assert not isinstance(module.padding, str)
            pads, strides = [*module.padding] * 2, [*module.stride]
            kernel = graph.weight(weight, name)
            x = graph.add("Conv", x, kernel, *biases, attributes={"pads": pads, "strides": strides})
        if module is not affine[-1]:
            x = graph.activation(equations.activation, x)
    return x


def implicit_nodes(
    graph: Graph, equations: Implicit, inputs: str, bound: ErrorBound, tolerance: float | None
) -> str:
    """An implicit model.

    Args:
        graph: to add to.
        equations: the model.
        inputs: (N, …), flattened first.
        bound: how many steps.
        tolerance: largest error of an output at which a loop ends, by what the last step changed;
            None for as many steps as the bound says.
    """
    u = graph.add("Flatten", inputs, attributes={"axis": 1})
    if equations.blocks is not None:
        return _swept(graph, equations, u)
    offset = graph.affine(u, equations.B, equations.b, "B")
    x = graph.activation(equations.activation, offset)
    if tolerance is None:
        factors = _factors(graph, equations)
        for _ in range(bound.steps):
            x = graph.activation(equations.activation, _product(graph, factors, x, offset))
    else:
        x = _looped(graph, equations, x, offset, bound, tolerance)
    return _readout(graph, equations, [(x, slice(0, equations.states))], u)


def recurrent_nodes(
    graph: Graph, equations: Recurrent, inputs: str, bounds: Sequence[ErrorBound], tolerance: float
) -> str:
    """Implicit cells over the steps of sequences (N, T, p), and the readout of the last h.

    Args:
        graph: to add to.
        equations: the network.
        inputs: the sequences.
        bounds: how many steps each cell takes at most.
        tolerance: as of ``implicit_nodes``, of every h.
    """
    rows = graph.add("Transpose", inputs, attributes={"perm": [1, 0, 2]})
    kind = helper.np_dtype_to_tensor_dtype(graph.dtype)
    last = ""
    for number, (cell, bound) in enumerate(zip(equations.cells, bounds, strict=True)):
        size, prefix = len(cell.c), f"cell_{number}_"
        body = Graph(graph.dtype, prefix, graph)
        read = body.add("Concat", f"{prefix}u", f"{prefix}h", attributes={"axis": 1})
        after = body.add("Identity", implicit_nodes(body, cell, read, bound, tolerance))
        row = body.add("Identity", after)
        infos, shape = helper.make_tensor_value_info, ["N", size]
        features = cell.B.shape[1] - size
        inner = helper.make_graph(
            body.nodes,
            "cell",
            [infos(f"{prefix}h", kind, shape), infos(f"{prefix}u", kind, ["N", features])],
            [infos(after, kind, shape), infos(row, kind, shape)],
        )
        zeros = graph.add("ReduceSum", inputs, graph.constant([1, 2]), attributes={"keepdims": 0})
        column = graph.add("Unsqueeze", zeros, graph.constant([1]))
        begin = graph.add("Mul", column, graph.constant(np.zeros((1, size), graph.dtype)))
        last, scanned = graph.fresh("state"), graph.fresh("rows")
        graph.nodes.append(
            helper.make_node("Scan", [begin, rows], [last, scanned], body=inner, num_scan_inputs=1)
        )
        rows = scanned
    return graph.affine(last, equations.weight, equations.bias, "readout")


def _factors(graph: Graph, equations: Implicit) -> list[str]:
    if len(equations.factors) == 1:
        return [graph.weight(equations.factors[0], "A")]
    left, right = equations.factors
    return [graph.weight(left, "L"), graph.weight(np.ascontiguousarray(right.T), "R")]


def _product(graph: Graph, factors: list[str], x: str, offset: str) -> str:
    """Ax + offset, a low-rank A by its factors."""
    if len(factors) == 2:
        x = graph.add("Gemm", x, factors[1], attributes={"transB": 1})
    return graph.add("Gemm", x, factors[0], offset, attributes={"transB": 1})


def _looped(
    graph: Graph, equations: Implicit, x: str, offset: str, bound: ErrorBound, tolerance: float
) -> str:
    """Steps until the last one changed so little that the error is proven small, or all K."""
    least = least_change(equations, bound, tolerance)
    factors = _factors(graph, equations)
    body = Graph(graph.dtype, "loop_", graph)
    stepped = body.activation(equations.activation, _product(body, factors, "loop_x", offset))
    stepped = body.add("Identity", stepped)
    change = body.add(
        "ReduceMax", body.add("Abs", body.add("Sub", stepped, "loop_x")), attributes={"keepdims": 0}
    )
    going = body.add("Greater", change, body.number(least))
    kind = helper.np_dtype_to_tensor_dtype(graph.dtype)
    shape = ["N", equations.states]
    inner = helper.make_graph(
        body.nodes,
        "step",
        [
            helper.make_tensor_value_info("loop_number", TensorProto.INT64, []),
            helper.make_tensor_value_info("loop_before", TensorProto.BOOL, []),
            helper.make_tensor_value_info("loop_x", kind, shape),
        ],
        [
            helper.make_tensor_value_info(going, TensorProto.BOOL, []),
            helper.make_tensor_value_info(stepped, kind, shape),
        ],
        body.initializers,
    )
    most, begin = graph.constant(np.array(bound.steps)), graph.constant(np.array(True))
    return graph.add("Loop", most, begin, x, attributes={"body": inner})


def _swept(graph: Graph, equations: Implicit, u: str) -> str:
    """Blocks of states that do not depend on each other, one after another: exact."""
    matrix = equations.factors[0]
    done: list[tuple[str, slice]] = []  # last block first
    assert equations.blocks is not None
    gathered = len(equations.blocks) > _MANY  # of a dense triangle all later states are read
    for start, stop in equations.blocks:
        rows = slice(start, stop)
        z: Array | str | None = equations.b[rows]
        if equations.B[rows].any():
            z = graph.affine(u, equations.B[rows], z, f"B_{start}")
        z = _summed(graph, matrix[rows], done, z, f"A_{start}")
        if not isinstance(z, str):  # states that read nothing
            zeros = graph.add("ReduceSum", u, graph.constant([1]), attributes={"keepdims": 1})
            none = graph.add("Mul", zeros, graph.number(0.0))
            z = graph.add("Add", none, graph.constant(equations.b[rows]))
        x = graph.activation(equations.activation, z)
        if gathered and done:
            x = graph.add("Concat", x, done.pop()[0], attributes={"axis": 1})
            rows = slice(start, equations.states)
        done.append((x, rows))
    return _readout(graph, equations, done, u)


def _readout(graph: Graph, equations: Implicit, states: list[tuple[str, slice]], u: str) -> str:
    y: Array | str | None = equations.c
    if equations.D.any():
        y = graph.affine(u, equations.D, y, "D")
    y = _summed(graph, equations.C, states, y, "C")
    if isinstance(y, str):
        return y
    return graph.affine(u, np.zeros_like(equations.D), equations.c, "D")


def _summed(
    graph: Graph,
    matrix: Array,
    states: list[tuple[str, slice]],
    total: Array | str | None,
    name: str,
) -> Array | str | None:
    """The total plus the matrix's products with those blocks of states that it reads."""
    used = [(x, block) for x, block in reversed(states) if matrix[:, block].any()]
    if not used:
        return total
    columns = np.concatenate([matrix[:, block] for _, block in used], axis=1)
    x = (
        used[0][0]
        if len(used) == 1
        else graph.add("Concat", *(x for x, _ in used), attributes={"axis": 1})
    )
    return graph.affine(x, columns, total, name)


def _slice(graph: Graph, x: str, first: int, last: int) -> str:
    bounds: list[Any] = [graph.constant([value]) for value in (first, last, 1)]
    return graph.add("Slice", x, *bounds)
