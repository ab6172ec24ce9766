"""The one-page ``predict.py`` of an exported model: NumPy and the standard library alone."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

ACTIVATIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "relu": "np.maximum(z, 0)",
        "leaky_relu": "np.where(z > 0, z, np.array(0.01, z.dtype) * z)",
        "tanh": "np.tanh(z)",
        "sigmoid": "0.5 * (1 + np.tanh(0.5 * z))",
        "identity": "z",
        "elu": "np.where(z > 0, z, np.expm1(np.minimum(z, 0)))",
        "selu": (
            "np.where(z > 0, np.array(1.0507009873554805, z.dtype) * z,"
            " np.array(1.7580993408473766, z.dtype) * np.expm1(np.minimum(z, 0)))"
        ),
        "softplus": "np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))",
        "softsign": "z / (1 + np.abs(z))",
        "hardtanh": "np.clip(z, -1, 1)",
        "relu6": "np.clip(z, 0, 6)",
        "hardsigmoid": "np.clip(z / 6 + 0.5, 0, 1)",
        "logsigmoid": "np.minimum(z, 0) - np.log1p(np.exp(-np.abs(z)))",
        "softshrink": "np.sign(z) * np.maximum(np.abs(z) - 0.5, 0)",
        "arctan": "np.arctan(z)",
        "sin": "np.sin(z)",
        "abs": "np.abs(z)",
        "gelu": "(0.5 * z * (1 + np.vectorize(math.erf)(z * math.sqrt(0.5)))).astype(z.dtype)",
        "silu": "z * (0.5 * (1 + np.tanh(0.5 * z)))",
        "mish": "z * np.tanh(np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))))",
        "hardswish": "z * np.clip(z / 6 + 0.5, 0, 1)",
    }
)
"""φ in NumPy's words, by name."""

_HEAD: Final = '''\
"""Predictions with NumPy alone: python predict.py SAMPLES.npy [PREDICTIONS.txt]

Samples are an array (N, {shape}), as stored for the training: the preprocessing is in here.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
M = json.loads((HERE / "model.json").read_text(encoding="utf-8"))
W = dict(np.load(HERE / "weights.npz", allow_pickle=False))


def activation(z):
    return {activation}


def preprocessed(raw):
    """(raw / divisor - mean) / std, in double precision where the samples have it."""
    kind = np.float64 if raw.dtype == np.float64 and "mean" in W else M["dtype"]
    values = raw.astype(kind) / np.array(M["divisor"], kind)
    if "mean" in W:
        values = (values - W["mean"].astype(kind)) / W["std"].astype(kind)
    return values.astype(M["dtype"])


'''

_IMPLICIT: Final = '''\
def equilibrium(u, cell):
    """x = phi(Ax + Bu + b), then Cx + Du + c."""
    offset = u @ W[cell + "B"].T + W[cell + "b"]
    x = activation(offset)
    if M["blocks"] is not None:  # no feedback: blocks of states one after another, exactly
        x = offset
        for start, stop in M["blocks"][cell]:
            z = offset[:, start:stop] + x[:, stop:] @ W[cell + "A"][start:stop, stop:].T
            x[:, start:stop] = activation(z)
    for _ in range(M["steps"]):
        product = x @ W[cell + "A"].T if cell + "A" in W else x @ W[cell + "R"] @ W[cell + "L"].T
        before, x = x, activation(product + offset)
        if np.abs(x - before).max(initial=0) <= M["least_change"]:  # proven to be near enough
            break
    return x @ W[cell + "C"].T + u @ W[cell + "D"].T + W[cell + "c"]


'''

_MODEL: Final[Mapping[str, str]] = MappingProxyType(
    {
        "implicit": _IMPLICIT
        + """\
def model(u):
    return equilibrium(u.reshape(len(u), -1), "")
""",
        "recurrent": _IMPLICIT
        + '''\
def model(u):
    """Implicit cells over the steps of a sequence, each layer reading the one before."""
    for number in range(M["cells"]):
        cell, rows = f"{number}.", []
        h = np.zeros((len(u), len(W[cell + "c"])), u.dtype)
        for step in range(u.shape[1]):
            h = equilibrium(np.concatenate([u[:, step], h], axis=1), cell)
            rows.append(h)
        u = np.stack(rows, axis=1)
    return h @ W["weight"].T + W["bias"]
''',
        "layers": """\
def model(u):
    x = u.reshape(len(u), -1)
    for number in range(M["layers"]):
        x = x @ W[f"{number}.weight"].T + W.get(f"{number}.bias", 0)
        if number < M["layers"] - 1:
            x = activation(x)
    return x
""",
    }
)

_TAIL: Final = '''

def outputs(raw):
    """Logits of the classes, or targets in their own unit, (N, q)."""
    u = preprocessed(np.asarray(raw)).reshape(len(raw), *M["shape"])
    if "change.scale" in W:  # reads and predicts changes of a series
        last = u[:, -1, M["target"], None]
        changes = np.diff(u, axis=1, prepend=u[:, :1]) / W["change.input"]
        y = last + (W["change.mean"] + W["change.scale"] * model(changes))
    else:
        y = model(u)
    return y * W["target.std"] + W["target.mean"] if "target.std" in W else y


def predict(raw):
    """Names of the classes, or the targets."""
    y = outputs(raw)
    return np.array(M["class_names"])[y.argmax(axis=1)] if M["class_names"] else y


if __name__ == "__main__":
    found = predict(np.load(sys.argv[1], allow_pickle=False))
    lines = found if M["class_names"] else (",".join(map(repr, row)) for row in found.tolist())
    text = "\\n".join(map(str, lines)) + "\\n"
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
'''


def script(kind: str, activation: str, shape: tuple[int, ...]) -> str:
    """The text of ``predict.py``.

    Args:
        kind: of the model, a key of the table above.
        activation: name of φ.
        shape: of a sample.
    """
    head = _HEAD.format(shape=", ".join(map(str, shape)), activation=ACTIVATIONS[activation])
    if "math." not in ACTIVATIONS[activation]:
        head = head.replace("import math\n", "")
    return head + _MODEL[kind] + _TAIL
