"""The implicit recurrent network: layers of implicit cells over a sequence, then a readout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from idl_cli.config.arguments import check_options
from idl_cli.equilibrium.conditions import WellPosedness
from idl_cli.equilibrium.precision import full_precision
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings
from idl_cli.equilibrium.statistics import SolveStatistics
from idl_cli.errors import ShapeError
from idl_cli.json_value import JSONValue
from idl_cli.models.base import TrainableModel
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.options import RnnOptions
from idl_cli.models.rnn_cell import ImplicitRNNCell
from idl_cli.models.sequences import SequenceOutput, SequenceRows, check_positive


@dataclass(frozen=True)
class Unrolled:
    """What a recurrent network makes of a batch of sequences.

    Attributes:
        prediction: ŷ, (m, q) for ``output="last"``; for ``"every"`` (m, T, q), or packed as the
            input was.
        state: h of each layer after each sample's last step (layers, m, h): the initial state
            with which the following part of the sequences is gone on with.
    """

    prediction: Tensor | PackedSequence
    state: Tensor


class ImplicitRNN(TrainableModel):
    """Implicit recurrent network (Decugis et al., IJCAI 2024, arXiv 2407.14430).

    Each layer is an ``ImplicitRNNCell``: x_t = φ(A x_t + B [u_t; h_{t-1}]) and
    h_t = C x_t + D [u_t; h_{t-1}]; the next layer reads h as its input, and the prediction is a
    linear readout (with offset) of the last layer's h.

    Args:
        input_dim: p, features of one step.
        output_dim: q.
        implicit_hidden_dim: n, states of each cell's implicit model.
        hidden_dim: h, size of what is handed from step to step.
        layers: number of cells stacked.
        output: ``last`` predicts from each sample's last step, ``every`` from each step.
        truncate: truncated back-propagation: a sequence is cut after every so many steps, and no
            gradient flows across a cut (values do); None for the exact gradient of all steps.
        rank: as in ``ImplicitModel``, for every cell, like all that follow.
        kappa: κ of ‖A‖∞ ≤ κ.
        bias: whether the cells have offsets. By default they have none: with relu, scaling the
            inputs then scales h, which is what extrapolation beyond the training range rests on.
            Published sizes (1,850 parameters for p=1, q=10, n=h=20) are those without.
        no_D: leaves out D.
        activation: name of φ.
        well_posedness: what keeps A well-posed.
        forward: how equilibria are solved.
        backward: how gradients are solved.

    Raises:
        ArgumentError: a value is out of range or two contradict each other.
    """

    takes_sequences = True

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        implicit_hidden_dim: int = RnnOptions.implicit_hidden_dim,
        hidden_dim: int = RnnOptions.hidden_dim,
        *,
        layers: int = RnnOptions.layers,
        output: SequenceOutput = RnnOptions.output,
        truncate: int | None = RnnOptions.truncate,
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
        check_positive({"input_dim": input_dim, "output_dim": output_dim})
        given = {
            "implicit_hidden_dim": implicit_hidden_dim,
            "hidden_dim": hidden_dim,
            "layers": layers,
            "output": output,
            "truncate": truncate,
        }
        check_options(RnnOptions, given)
        self.input_dim = input_dim
        self.output_dim = output_dim
        self.implicit_hidden_dim = implicit_hidden_dim
        self.hidden_dim = hidden_dim
        self.output = output
        self.truncate = truncate
        self.bias = bias
        self._solve_statistics = SolveStatistics()
        self.cells = nn.ModuleList(
            ImplicitRNNCell(
                input_dim if layer == 0 else hidden_dim,
                implicit_hidden_dim,
                hidden_dim,
                rank=rank,
                kappa=kappa,
                bias=bias,
                no_D=no_D,
                activation=activation,
                well_posedness=well_posedness,
                forward=forward,
                backward=backward,
            )
            for layer in range(layers)
        )
        self.readout = nn.Linear(hidden_dim, output_dim)

    def forward(
        self,
        inputs: Tensor | PackedSequence,
        lengths: Tensor | None = None,
        state: Tensor | None = None,
    ) -> Tensor | PackedSequence:
        """Predict.

        Args:
            inputs: sequences u (m, T, p), or packed.
            lengths: steps of each sample (m,), from 1 to T; None where all have T. What stands in
                ``inputs`` beyond a sample's length is never looked at.
            state: h of each layer before the first step (layers, m, h); zeros where it is None.

        Returns:
            ŷ (m, q) for ``output="last"``; for ``"every"`` (m, T, q), zero beyond each sample's
            length, or packed as the input was.

        Raises:
            ShapeError: an argument has another size or dtype.
        """
        return self.unroll(inputs, lengths, state).prediction

    def unroll(
        self,
        inputs: Tensor | PackedSequence,
        lengths: Tensor | None = None,
        state: Tensor | None = None,
    ) -> Unrolled:
        """Return the prediction and the state after the last step; arguments as for ``forward``.

        A sequence may be run in parts: hand ``state`` from one to the next, detached where no
        gradient is to flow back into the part before.
        """
        if torch.compiler.is_compiling():
            # A solve's length is data, which no compiled graph can hold.
            eager = torch.compiler.disable(ImplicitRNN._unroll)  # type: ignore[no-untyped-call]
            return cast(Unrolled, eager(self, inputs, lengths, state))
        return self._unroll(inputs, lengths, state)

    def constrain_(self) -> None:
        """Project every cell's A on its constraint set; call after each optimiser step."""
        for model in self.implicit_models():
            model.constrain_()

    def implicit_models(self) -> list[ImplicitModel]:
        """Return the implicit models of the cells, first layer first."""
        return [cast(ImplicitRNNCell, cell).model for cell in self.cells]

    @property
    def solve_statistics(self) -> SolveStatistics:
        """The counts of the solves of all steps and layers since the last reset."""
        return self._solve_statistics

    def inf_norm_A(self) -> float:
        """Return the largest ‖A‖∞ of the cells."""
        return max(model.inf_norm_A() for model in self.implicit_models())

    def constructor_arguments(self) -> dict[str, JSONValue]:
        """Return the keyword arguments that make a network of this architecture again."""
        model = self.implicit_models()[0]
        return {
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "implicit_hidden_dim": self.implicit_hidden_dim,
            "hidden_dim": self.hidden_dim,
            "layers": len(self.cells),
            "output": self.output,
            "truncate": self.truncate,
            "rank": model.rank,
            "kappa": model.kappa,
            "bias": self.bias,
            "no_D": model.D is None,
            "activation": model.activation.name,
            "well_posedness": model.well_posedness,
            "forward": asdict(model.forward_settings),
            "backward": asdict(model.backward_settings),
        }

    def _unroll(
        self, inputs: Tensor | PackedSequence, lengths: Tensor | None, state: Tensor | None
    ) -> Unrolled:
        sequences = SequenceRows.of(inputs, lengths, self.input_dim)
        rows, dtype = sequences.rows, self.readout.weight.dtype
        autocast = torch.is_autocast_enabled(rows.device.type)
        if rows.dtype != dtype and not (autocast and rows.is_floating_point()):
            raise ShapeError(
                f"the input is {rows.dtype}, the model {dtype}: convert one of them, for example "
                f"with inputs.to({dtype})."
            )
        with full_precision(rows.device.type):
            return self._run(replace(sequences, rows=rows.to(dtype)), state, _steps(inputs))

    def _run(self, sequences: SequenceRows, state: Tensor | None, steps: int | None) -> Unrolled:
        rows = sequences.rows
        finals = []
        for module, initial in zip(self.cells, self._initial(sequences, state), strict=True):
            rows, final = cast(ImplicitRNNCell, module).unroll(
                rows,
                sequences.batch_sizes,
                sequences.sort(initial),
                truncate=self.truncate,
                statistics=self._solve_statistics,
            )
            finals.append(sequences.unsort(final))
        if self.output == "last":
            prediction = self.readout(finals[-1])
        else:
            prediction = sequences.restore(self.readout(rows), steps)
        return Unrolled(prediction, torch.stack(finals))

    def _initial(self, sequences: SequenceRows, state: Tensor | None) -> list[Tensor]:
        rows = sequences.rows
        shape = (len(self.cells), sequences.samples, self.hidden_dim)
        if state is None:
            return list(rows.new_zeros(shape))
        if tuple(state.shape) != shape or state.dtype != rows.dtype:
            raise ShapeError(
                f"the state is {state.dtype} of shape {tuple(state.shape)}; expected {rows.dtype} "
                f"of shape {shape}: (layers, samples, hidden_dim)."
            )
        return list(state)


def _steps(inputs: Tensor | PackedSequence) -> int | None:
    if isinstance(inputs, PackedSequence):
        return None
    return inputs.shape[2 if inputs.dim() == 4 else 1]  # of an image: its rows
