"""The sub-commands: a line each in the table, and a file or folder of the same name.

The module ``idl_cli.commands.NAME`` holds ``COMMAND``, a ``requests.specification.Command``, where
the request is a composed configuration, or else ``main(arguments)``, which returns the exit status
and may stand beside ``completions(words, current)``: what can take the place of the half-typed word
``current`` behind ``words``.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from idl_cli.requests.specification import Command

SUB_COMMANDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "train": "train a model by gradient",
        "sim": "train from a network's states by convex optimisation",
        "eval": "evaluate a run, on its own or another data set",
        "certify": "prove how robust a run's model is, with attacks beside",
        "predict": "apply a run's model to a file of your own",
        "convert": "a feed-forward network as an exact, sparse implicit model",
        "compress": "fewer states and weights, exactly or with a proven bound",
        "export": "a run's model as ONNX, NumPy, torch.export, or for a hub",
        "compare": "one table over runs and sweeps",
        "list": "what can be chosen in each group",
        "env": "versions, devices, threads; --check: self-test",
    }
)
"""Name → what it does, in one line."""


def module_of(name: str) -> Any:
    """The module of a sub-command, imported when asked for: help needs none of them."""
    return import_module(f"{__name__}.{name}")


def configured() -> dict[str, Command]:
    """The sub-commands whose request is a composed configuration, by name."""
    found = {name: getattr(module_of(name), "COMMAND", None) for name in SUB_COMMANDS}
    return {name: command for name, command in found.items() if command is not None}
