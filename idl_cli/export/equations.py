"""The equations of a trained model as arrays: what every deployable form is written from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from idl_cli.data.files.npy_format import Array
from idl_cli.equilibrium.back_substitution import independent_blocks
from idl_cli.equilibrium.operators import StrictlyUpperTriangularOperator
from idl_cli.errors import UnsupportedModelError
from idl_cli.models.convolutional.feedforward_conv import FeedforwardConv
from idl_cli.models.convolutional.implicit_conv import ImplicitConv
from idl_cli.models.differenced import Differenced
from idl_cli.models.explicit import CNN, MLP
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.rnn import ImplicitRNN

_LAYERS = (nn.Linear, nn.Conv2d, nn.Unflatten)


@dataclass(frozen=True)
class Implicit:
    """x = φ(Ax + Bu + b), y = Cx + Du + c, its states in the order in which they are solved.

    Args:
        factors: A (n, n), or L and R (n, r) of A = L Rᵀ.
        B: (n, p).
        b: (n,).
        C: (q, n).
        D: (q, p).
        c: (q,).
        activation: name of φ.
        blocks: of an A without feedback, consecutive states [start, stop) that do not depend on
            each other, the first to be computed first: exact in one sweep. None of another A.
    """

    factors: tuple[Array, ...]
    B: Array
    b: Array
    C: Array
    D: Array
    c: Array
    activation: str
    blocks: tuple[tuple[int, int], ...] | None

    @property
    def states(self) -> int:
        """Number of states n."""
        return int(self.B.shape[0])

    def matrix(self) -> Array:
        """A (n, n) in float64, its product formed."""
        wide = [factor.astype(np.float64) for factor in self.factors]
        return wide[0] if len(wide) == 1 else wide[0] @ wide[1].T

    def arrays(self) -> dict[str, Array]:
        """The weights by name."""
        names = ("A",) if len(self.factors) == 1 else ("L", "R")
        factors = dict(zip(names, self.factors, strict=True))
        return {**factors, "B": self.B, "b": self.b, "C": self.C, "D": self.D, "c": self.c}


@dataclass(frozen=True)
class Recurrent:
    """Implicit cells over a sequence, (u_t, h_{t-1}) to h_t, and a readout of the last h."""

    cells: tuple[Implicit, ...]
    weight: Array
    bias: Array


@dataclass(frozen=True)
class Layers:
    """A network without feedback: affine modules, each but the last before an activation."""

    modules: tuple[nn.Module, ...]
    activation: str


Equations = Implicit | Recurrent | Layers


@dataclass(frozen=True)
class Changes:
    """How a forecaster reads and predicts changes: see ``models.differenced``."""

    target: int
    input_scale: Array
    mean: Array
    scale: Array


def equations_of(model: nn.Module) -> tuple[Equations, Changes | None]:
    """The equations of a model, and of a forecaster of changes what is around them.

    Raises:
        UnsupportedModelError: there are no equations for models of this type.
    """
    if isinstance(model, Differenced):
        inner, _ = equations_of(model.model)
        around = (_array(each) for each in (model.input_scale, model.mean, model.scale))
        return inner, Changes(model.target, *around)
    if isinstance(model, ImplicitModel):
        return implicit_equations(model), None
    if isinstance(model, ImplicitConv):
        return implicit_equations(model.dense_form().to(model.C.dtype)), None
    if isinstance(model, ImplicitRNN) and model.output == "last":
        cells = tuple(map(implicit_equations, model.implicit_models()))
        return Recurrent(cells, _array(model.readout.weight), _array(model.readout.bias)), None
    if isinstance(model, FeedforwardConv):
        if not model.graph.is_chain:
            raise UnsupportedModelError(
                "no equations are known of a feedforward_conv with poolings or sums of maps; "
                "format=torch_export, safetensors and hub take it"
            )
        modules = tuple(each for each in model.to_sequential() if isinstance(each, _LAYERS))
        return Layers(modules, model.activation.name), None
    if isinstance(model, MLP | CNN):
        modules = tuple(each for each in model.layers if isinstance(each, _LAYERS))
        return Layers(modules, model.activation), None
    name = type(model).__name__
    raise UnsupportedModelError(
        f"{name}: no equations are known of it; format=safetensors and format=hub take every model,"
        " format=torch_export explicit networks of every type"
    )


@torch.no_grad()
def implicit_equations(model: ImplicitModel) -> Implicit:
    """The equations of an implicit model, in the order in which it is solved."""
    weights = model.effective_weights()
    operator, order = model.ordered_operator()
    factors = tuple(map(_array, operator.factors))
    B, b, C = _array(weights.B), _array(weights.state_bias), _array(weights.C)
    if order is not None:
        places = order.cpu().numpy()
        B, b, C = B[places], b[places], C[:, places]
    blocks = None
    if isinstance(operator, StrictlyUpperTriangularOperator):
        blocks = tuple(independent_blocks(operator.factors[0]))
    D, c = _array(weights.D), _array(weights.output_bias)
    return Implicit(factors, B, b, C, D, c, model.activation.name, blocks)


def _array(tensor: torch.Tensor) -> Array:
    return tensor.detach().cpu().numpy()
