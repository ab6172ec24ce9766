"""The cell of an implicit recurrent network: an implicit model from (u_t, h_{t-1}) to h_t."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from idl_cli.equilibrium.conditions import WellPosedness
from idl_cli.equilibrium.precision import solving_dtype
from idl_cli.equilibrium.problem import EquilibriumProblem
from idl_cli.equilibrium.recurrence.layout import Recurrence, RecurrenceWeights
from idl_cli.equilibrium.recurrence.recurrence import implicit_recurrence
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings
from idl_cli.equilibrium.statistics import SolveStatistics
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.options import RnnOptions


class ImplicitRNNCell(nn.Module):
    """One step of a recurrence, by an implicit model ([EXT] arXiv 2407.14430).

    The state x_t in R^n solves x_t = φ(A x_t + B [u_t; h_{t-1}] + b), the output that is handed on
    is h_t = C x_t + D [u_t; h_{t-1}] + c.

    Args:
        input_dim: p, features of one step.
        implicit_hidden_dim: n, states of the implicit model.
        hidden_dim: h, size of what is handed from step to step.
        rank: as in ``ImplicitModel``, like all that follow.
        kappa: κ of ‖A‖∞ ≤ κ.
        bias: whether there are b and c. By default there are none: with a positively homogeneous φ
            (relu) scaling the inputs then scales h, which is what extrapolation beyond the
            training range rests on.
        no_D: leaves out D.
        activation: name of φ.
        well_posedness: what keeps A well-posed.
        forward: how equilibria are solved.
        backward: how gradients are solved.

    Raises:
        ArgumentError: a value is out of range or two contradict each other.
    """

    def __init__(
        self,
        input_dim: int,
        implicit_hidden_dim: int,
        hidden_dim: int,
        *,
        rank: int | None = RnnOptions.rank,
        kappa: float = RnnOptions.kappa,
        bias: bool = RnnOptions.bias,
        no_D: bool = RnnOptions.no_D,
        activation: str = RnnOptions.activation,
        well_posedness: WellPosedness = RnnOptions.well_posedness,
        forward: FixedPointSettings | Mapping[str, Any] | None = None,
        backward: AdjointSettings | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.input_dim = input_dim
        self.hidden_dim = hidden_dim
        self.model = ImplicitModel(
            input_dim + hidden_dim,
            hidden_dim,
            implicit_hidden_dim,
            rank=rank,
            kappa=kappa,
            bias=bias,
            no_D=no_D,
            activation=activation,
            well_posedness=well_posedness,
            forward=forward,
            backward=backward,
        )

    def forward(self, inputs: Tensor, state: Tensor | None = None) -> Tensor:
        """Return h_t (m, h) of one step.

        Args:
            inputs: u_t (m, p).
            state: h_{t-1} (m, h); zeros where it is None.

        Raises:
            ShapeError: an argument has another size or dtype.
        """
        if state is None:
            state = inputs.new_zeros(len(inputs), self.hidden_dim)
        output: Tensor = self.model(torch.cat((inputs, state), dim=1))
        return output

    def unroll(
        self,
        rows: Tensor,
        batch_sizes: tuple[int, ...],
        initial: Tensor,
        *,
        truncate: int | None = None,
        statistics: SolveStatistics | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return h of every step (rows, h) and of every sample's last step (samples, h).

        A is projected once, and the input's part of all steps is one matrix product. In half
        precision all of it is computed in float32 and rounded at the end.

        Args:
            rows: u (rows, p), the steps below each other.
            batch_sizes: samples still running at each step.
            initial: h_0 (samples, h).
            truncate: steps that a gradient flows back at most; None for all.
            statistics: where the solves are counted; the model's own where it is None.
        """
        model = self.model
        operator, order = model.ordered_operator()
        dtype = solving_dtype(model.B.dtype)
        B, C = model.B.to(dtype), model.C.to(dtype)
        D, state_bias, output_bias = (
            None if each is None else each.to(dtype)
            for each in (model.D, model.state_bias, model.output_bias)
        )
        weights = RecurrenceWeights(operator.to(dtype), B, C, D, state_bias, output_bias)
        if order is not None:
            bias = None if state_bias is None else state_bias[order]
            weights = replace(weights, B=B[order], C=C[:, order], state_bias=bias)
        problem = EquilibriumProblem(
            operator.form,
            model.activation,
            model.forward_settings,
            model.backward_settings,
            model.solve_statistics if statistics is None else statistics,
        )
        recurrence = Recurrence(problem, batch_sizes, truncate)
        outputs, final = implicit_recurrence(weights, rows.to(dtype), initial.to(dtype), recurrence)
        return outputs.to(model.B.dtype), final.to(model.B.dtype)
