"""The model that is judged: its weights as they are stored, read as exact numbers in float64."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from idl_cli.certificates.rounding import error_of, up
from idl_cli.certificates.shapes import Graph
from idl_cli.equilibrium.settings import FixedPointSettings
from idl_cli.errors import NonFiniteError, UnsupportedModelError
from idl_cli.models.conversion import from_feedforward
from idl_cli.models.convolutional.feedforward_conv import FeedforwardConv
from idl_cli.models.convolutional.implicit_conv import ImplicitConv
from idl_cli.models.explicit import ExplicitNetwork
from idl_cli.models.implicit import ImplicitModel


@dataclass(frozen=True)
class Equation:
    """x = φ(Ax + Bu + b), ŷ = Cx + Du + c, all float64.

    Attributes:
        model: the model itself in float64, for states and predictions as computed.
        A: (n, n), correctly rounded, or within ``product_error`` of the exact matrix.
        magnitude: at least |A| of the exact matrix, entry by entry (n, n).
        product_error: at least |A − exact| (n, n); None where A is exact, as all but low-rank are.
        B: (n, p).
        C: (q, n).
        D: (q, p).
        state_bias: b (n,).
        output_bias: c (q,).
        graph: φ.
    """

    model: ImplicitModel
    A: Tensor
    magnitude: Tensor
    product_error: Tensor | None
    B: Tensor
    C: Tensor
    D: Tensor
    state_bias: Tensor
    output_bias: Tensor
    graph: Graph

    @classmethod
    def of(cls, model: nn.Module) -> Equation:
        """Read a model; it is left as it is.

        Args:
            model: an ``ImplicitModel``, an ``ImplicitConv`` of small images (by its matrices), or
                a feed-forward network that has an exact implicit form.

        Raises:
            UnsupportedModelError: the model has no equilibrium of the kind that is judged here.
            NonFiniteError: a weight is NaN or infinite.
        """
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise NonFiniteError(
                    f"{name} holds NaN or infinite weights: nothing can be certified of such a "
                    "model; train it again, or take another checkpoint"
                )
        implicit = _implicit_form(model)
        factors = [factor.detach().double() for factor in implicit.operator().factors]
        A, product_error = factors[0], None
        if implicit.rank is not None:
            A = factors[0] @ factors[1].t()
            products = up(factors[0].abs() @ factors[1].abs().t(), implicit.rank)
            product_error = error_of(implicit.rank) * products
        # deepcopy leaves the caller's model alone; float64 holds every weight exactly
        exact = deepcopy(implicit).double().eval().requires_grad_(False)
        for parameter, factor in zip(_feedback(exact), factors, strict=True):
            parameter.copy_(factor)
        if exact.well_posedness == "linf":  # in float64 a row rounded beyond κ would be projected
            exact.free_()
        exact.forward_settings = FixedPointSettings(max_iter=2000, tol=1e-12)
        weights = exact.effective_weights()
        return cls(
            model=exact,
            A=A,
            magnitude=A.abs() if product_error is None else up(A.abs() + product_error),
            product_error=product_error,
            B=weights.B,
            C=weights.C,
            D=weights.D,
            state_bias=weights.state_bias,
            output_bias=weights.output_bias,
            graph=Graph.of(exact.activation),
        )

    @cached_property
    def single(self) -> tuple[Tensor, Tensor, Tensor]:
        """About A, B and b, in float32."""
        return self.A.float(), self.B.float(), self.state_bias.float()

    @property
    def states(self) -> int:
        """Number of states n."""
        return len(self.A)

    @property
    def inputs(self) -> int:
        """Number of inputs p."""
        return self.B.shape[1]

    @property
    def outputs(self) -> int:
        """Number of outputs q."""
        return len(self.C)

    @property
    def terms(self) -> int:
        """At least the number of products in any sum of this equation."""
        return self.states + self.inputs + 4

    @torch.no_grad()
    def state(self, inputs: Tensor) -> Tensor:
        """The states (m, n) of inputs (m, p), as computed: a guess, which bounds then prove."""
        return self.model.equilibrium(inputs)


def _feedback(model: ImplicitModel) -> tuple[Tensor, ...]:
    return (model.A,) if model.rank is None else (model.L, model.R)


def _implicit_form(model: nn.Module) -> ImplicitModel:
    if isinstance(model, ImplicitModel):
        return model
    if isinstance(model, ImplicitConv | FeedforwardConv):
        return model.dense_form()
    network = model.layers if isinstance(model, ExplicitNetwork) else model
    if isinstance(network, nn.Sequential):
        return from_feedforward(deepcopy(network).double())
    raise UnsupportedModelError(
        f"{type(model).__name__} is certified by no bound here: what is certified are models "
        "implicit (dense, low rank, triangular, and those of `idl sim`), implicit_conv and "
        "feedforward_conv of small images, and feed-forward networks "
        "that have an exact implicit form (mlp)"
    )
