"""A teacher from a plain file of weights: a fully connected network of PyTorch's naming.

Matrices are (outputs, inputs), as in a ``state_dict``. Their order is read off the shapes, and off
the numbers in the names where layers of one shape could stand in any; what is left open is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from idl_cli.assembly.compute import Compute
from idl_cli.data.dataset import Dataset
from idl_cli.data.files.bounds import refuse_irregular
from idl_cli.data.files.npy_format import NpzMembers
from idl_cli.data.preprocessing import Preprocessing
from idl_cli.errors import ConfigError, DataError
from idl_cli.models.explicit import MLP

_BATCH_COUNT: Final = "num_batches_tracked"
"""Entries of a state_dict that say how long a normalisation was trained; nothing uses them."""


def network_of_file(settings: Mapping[str, Any], dataset: Dataset, compute: Compute) -> MLP:
    """The network whose weights a file holds.

    Args:
        settings: section ``teacher``.
        dataset: whose inputs it takes and whose outputs it gives.
        compute: device and dtype.

    Raises:
        ConfigError: the weights make no network for this data set, or several.
        DataError: the file cannot be read.
    """
    path, task = Path(settings["file"]).expanduser(), dataset.task
    arrays = _arrays(path)
    weights = {name: array for name, array in arrays.items() if array.ndim == 2}
    biases = {_bias_name(name): name for name in weights}
    strangers = [f"{n} {list(a.shape)}" for n, a in arrays.items() if n not in weights | biases]
    if strangers or not weights:
        raise _wrong(
            path,
            f"{', '.join(strangers) or 'nothing in it'} is no part of a fully connected network; "
            "weights are matrices (outputs, inputs), biases vectors of the same name with "
            "'bias' for 'weight'",
        )
    order = _order(path, weights, task.input_dim, task.output_dim, settings["layers"])
    used = [name for name in biases if name in arrays]
    widths = [len(weights[name]) for name in order[:-1]]
    if not widths:
        raise _wrong(path, "a single layer has no hidden states to match")
    network = MLP(
        task.input_shape,
        task.output_dim,
        hidden_dims=widths,
        activation=settings["activation"],
        bias=bool(used),
    ).to(device=compute.device, dtype=compute.dtype)
    layers = [layer for layer in network.layers if isinstance(layer, torch.nn.Linear)]
    with torch.no_grad():
        for name, layer in zip(order, layers, strict=True):
            layer.weight.copy_(weights[name])
            if layer.bias is not None:
                bias = arrays.get(_bias_name(name))
                if bias is not None and bias.shape != layer.bias.shape:
                    raise _wrong(
                        path,
                        f"{_bias_name(name)} has shape {list(bias.shape)}, for {len(layer.bias)} "
                        f"rows of {name}",
                    )
                # A layer without one beside others that have one.
                layer.bias.copy_(torch.zeros_like(layer.bias) if bias is None else bias)
    return network


def load_weights(network: nn.Module, file: str) -> None:
    """Give a network the weights of a file, in the names of its ``state_dict``.

    Args:
        network: changed in place.
        file: .safetensors or .npz.

    Raises:
        ConfigError: the file lacks an entry, has one too many, or one of another shape.
        DataError: the file cannot be read.
    """
    path = Path(file).expanduser()
    arrays = _arrays(path)
    own = {
        name: tensor for name, tensor in network.state_dict().items() if tensor.is_floating_point()
    }
    problems = [f"{name} {list(own[name].shape)} is missing" for name in own if name not in arrays]
    problems += [f"{name} {list(arrays[name].shape)} is too many" for name in arrays.keys() - own]
    problems += [
        f"{name} has shape {list(arrays[name].shape)} instead of {list(own[name].shape)}"
        for name in own.keys() & arrays.keys()
        if arrays[name].shape != own[name].shape
    ]
    if problems:
        shown = ", ".join(sorted(problems)[:4]) + (", …" if len(problems) > 4 else "")
        raise _wrong(path, f"no weights of this {type(network).__name__}: {shown}")
    network.load_state_dict(arrays, strict=False)


def as_it_was_trained(settings: Mapping[str, Any], dataset: Dataset) -> Dataset:
    """The data set with the normalisation that ``teacher.mean`` and ``teacher.std`` name, if any.

    Raises:
        ConfigError: there is not one of each a channel.
    """
    mean, std = settings["mean"], settings["std"]
    if mean is None:
        return dataset
    one = torch.zeros(1, *dataset.task.input_shape)
    shape = Preprocessing.fit(one, "channel").statistics_shape
    channels = one[0].new_zeros(shape).numel()
    if len(mean) != channels:
        raise ConfigError(
            [f"teacher.mean={list(mean)}: dataset={dataset.name} has {channels} channels"]
        )
    preprocessing = replace(
        dataset.preprocessing,
        normalize="channel",
        statistics_shape=shape,
        mean=tuple(mean),
        std=tuple(std),
    )
    return dataset.for_model_of(dataset.task, preprocessing)


def _arrays(path: Path) -> dict[str, Tensor]:
    """All arrays of a file by name, in its order."""
    if path.suffix == ".npz":
        arrays = {name: _tensor(path, name, array) for name, array in NpzMembers(path).items()}
    elif path.suffix == ".safetensors":
        refuse_irregular(path)
        try:
            with safe_open(path, framework="pt") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError) as error:
            raise DataError(f"{path}: damaged, or not a safetensors file ({error})") from error
    else:
        raise _wrong(
            path,
            "only .safetensors and .npz are read, since a pickle can run code; write one with "
            "numpy.savez(FILE, **{k: v.numpy() for k, v in model.state_dict().items()})",
        )
    arrays = {name: each for name, each in arrays.items() if not name.endswith(_BATCH_COUNT)}
    for name, array in arrays.items():
        if not array.is_floating_point():
            raise _wrong(path, f"{name} holds {array.dtype}, no real numbers")
        if not bool(array.isfinite().all()):
            raise _wrong(path, f"{name} holds NaN or infinity")
    return arrays


def _tensor(path: Path, name: str, array: Any) -> Tensor:
    try:
        return torch.from_numpy(array)
    except TypeError as error:
        raise DataError(f"{path}: {name} holds {array.dtype}, no real numbers") from error


def _bias_name(weight: str) -> str:
    """fc1.weight → fc1.bias, W1 → b1, kernel_0 → kernel_0.bias."""
    for word, bias in (("weight", "bias"), ("W", "b")):
        if word in weight:
            return bias.join(weight.rsplit(word, 1))
    return f"{weight}.bias"


def _order(
    path: Path,
    weights: Mapping[str, Tensor],
    input_dim: int,
    output_dim: int,
    asked: Sequence[str] | None,
) -> list[str]:
    """The names of the matrices, first layer first."""
    shapes = {name: (array.shape[1], array.shape[0]) for name, array in weights.items()}
    listed = ", ".join(f"{name} {list(weights[name].shape)}" for name in weights)
    if asked is not None:
        if sorted(asked) != sorted(weights):
            raise ConfigError([f"teacher.layers={list(asked)}: {path} holds {listed}"])
        if not _is_chain([shapes[name] for name in asked], input_dim, output_dim):
            raise ConfigError(
                [
                    f"teacher.layers={list(asked)}: with {listed} that is no network from "
                    f"{input_dim} inputs to {output_dim} outputs"
                ]
            )
        return list(asked)
    natural = sorted(weights, key=_numbers)
    found = _chains(tuple(natural), shapes, input_dim, output_dim)
    first, second = next(found, None), next(found, None)
    if first is None:
        raise _wrong(
            path,
            f"{listed} make no network from {input_dim} inputs to {output_dim} outputs",
        )
    if second is None:
        return first
    same = len({re.sub(r"\d+", "#", name) for name in weights}) == 1
    if same and _is_chain([shapes[name] for name in natural], input_dim, output_dim):
        return natural
    raise ConfigError(
        [
            f"teacher.file={path}: {', '.join(first)} and {', '.join(second)} are both possible "
            f"orders of its layers; say which with teacher.layers=[{','.join(natural)}], first "
            "layer first"
        ]
    )


def _chains(
    names: tuple[str, ...], shapes: Mapping[str, tuple[int, int]], width: int, output_dim: int
) -> Iterator[list[str]]:
    """Orders in which each layer takes what the one before it gives."""
    if not names:
        if width == output_dim:
            yield []
        return
    for name in names:
        if shapes[name][0] == width:
            rest = tuple(each for each in names if each != name)
            for tail in _chains(rest, shapes, shapes[name][1], output_dim):
                yield [name, *tail]


def _is_chain(shapes: Sequence[tuple[int, int]], input_dim: int, output_dim: int) -> bool:
    taken = [each[0] for each in shapes] + [output_dim]
    given = [input_dim] + [each[1] for each in shapes]
    return taken == given


def _numbers(name: str) -> list[tuple[int, str]]:
    """layer2 before layer10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _wrong(path: Path, reason: str) -> ConfigError:
    return ConfigError([f"teacher.file={path}: {reason}"])
