"""What every model that the trainers know has in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from idl_cli.errors import ShapeError

if TYPE_CHECKING:
    from idl_cli.equilibrium.statistics import SolveStatistics
    from idl_cli.json_value import JSONValue


class TrainableModel(nn.Module):
    """A module that knows its constraint, its solves and how to be made again.

    Attributes:
        takes_sequences: whether inputs are sequences (m, steps, features), ``input_dim`` being the
            features of a step; otherwise inputs are flattened and ``input_dim`` counts all of them.
    """

    takes_sequences: ClassVar[bool] = False

    def constrain_(self) -> None:
        """Project the parameters on the model's constraint set; call after each optimiser step.

        Does nothing for a model without constraints.
        """

    def fit_inputs(self, batches: Iterable[Tensor]) -> None:
        """Take from the training inputs what is fixed before training; does nothing here.

        Args:
            batches: all training inputs (m, ...), preprocessed, made as they are asked for.
        """

    @property
    def solve_statistics(self) -> SolveStatistics | None:
        """Return the counts of the model's equilibrium solves, None where there are none."""
        return None

    def inf_norm_A(self) -> float | None:
        """Return ‖A‖∞ of the matrix the model uses, None where there is no A."""
        return None

    @abstractmethod
    def constructor_arguments(self) -> dict[str, JSONValue]:
        """Return the keyword arguments that make a model of this architecture again."""


def flat_inputs(inputs: Tensor, input_dim: int, dtype: torch.dtype) -> Tensor:
    """Return u (m, p) of inputs (m, ...); autocast may hand in another floating dtype.

    Args:
        inputs: samples, trailing dimensions flattened.
        input_dim: p.
        dtype: of the model's parameters.

    Raises:
        ShapeError: the input has another size or dtype.
    """
    u = inputs.flatten(1) if inputs.dim() >= 2 else inputs
    if u.dim() != 2 or u.shape[1] != input_dim:
        raise ShapeError(
            f"the input has shape {tuple(inputs.shape)}; expected (samples, ...) with {input_dim} "
            "values a sample."
        )
    autocast = torch.is_autocast_enabled(u.device.type)
    if u.dtype != dtype and not (autocast and u.is_floating_point()):
        raise ShapeError(
            f"the input is {u.dtype}, the model {dtype}: convert one of them, for example with "
            f"inputs.to({dtype})."
        )
    return u


def outside_compiled_graphs(solve: Callable[..., Tensor], *arguments: object) -> Tensor:
    """Call a solve: its length is data, which no compiled graph can hold."""
    # torch.compiler.disable as a decorator would import the compiler with this module.
    if torch.compiler.is_compiling():
        solve = torch.compiler.disable(solve)  # type: ignore[no-untyped-call]
    return solve(*arguments)
