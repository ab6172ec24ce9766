"""Explicit networks beside the implicit one, from torch's own modules.

Their sizes can be matched: ``match_parameters`` chooses the width whose parameter count is nearest
to a given number, say the 1,850 of the implicit recurrent network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from idl_cli.config.arguments import check_options
from idl_cli.models.explicit import MLP, ExplicitNetwork
from idl_cli.models.options import LstmOptions, MlpOptions, TransformerOptions
from idl_cli.models.parameter_count import nearest_width
from idl_cli.models.sequences import SequenceOutput, as_sequences, check_positive


class _Gated(ExplicitNetwork):
    """A recurrent network of torch's, and a linear readout of its last layer."""

    takes_sequences = True
    recurrent_type: ClassVar[type[nn.LSTM] | type[nn.GRU]]

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        hidden_dim: int = LstmOptions.hidden_dim,
        *,
        layers: int = LstmOptions.layers,
        output: SequenceOutput = LstmOptions.output,
        match_parameters: int | None = LstmOptions.match_parameters,
    ) -> None:
        super().__init__()
        check_positive({"input_dim": input_dim, "output_dim": output_dim})
        given = {"hidden_dim": hidden_dim, "layers": layers, "output": output}
        check_options(LstmOptions, given)
        if match_parameters is not None:
            hidden_dim = nearest_width(
                lambda width: type(self)(input_dim, output_dim, width, layers=layers),
                match_parameters,
            )
        self.input_dim, self.output_dim = input_dim, output_dim
        self.hidden_dim, self.layers, self.output = hidden_dim, layers, output
        self.recurrent = self.recurrent_type(input_dim, hidden_dim, layers, batch_first=True)
        self.readout = nn.Linear(hidden_dim, output_dim)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Predict.

        Args:
            inputs: sequences (m, T, p).
            lengths: steps of each sample (m,); None where all have T.

        Returns:
            ŷ (m, q) for ``output="last"``, (m, T, q) for ``"every"``, where it is of no meaning
            beyond a sample's length.

        Raises:
            ShapeError: the inputs or the lengths have another shape or range.
        """
        inputs = as_sequences(inputs, lengths, self.input_dim)
        given: Tensor | PackedSequence = inputs
        if lengths is not None:
            given = pack_padded_sequence(
                inputs, lengths.cpu(), batch_first=True, enforce_sorted=False
            )
        hidden, state = self.recurrent(given)
        if self.output == "last":
            # An LSTM's state is (h, c).
            last = state[0] if isinstance(state, tuple) else state
            return cast(Tensor, self.readout(last[-1]))
        if lengths is not None:
            hidden = pad_packed_sequence(hidden, batch_first=True, total_length=inputs.shape[1])[0]
        return cast(Tensor, self.readout(hidden))


class LSTM(_Gated):
    """Long short-term memory network: ``torch.nn.LSTM`` and a linear readout.

    Args:
        input_dim: p, features of one step.
        output_dim: q.
        hidden_dim: size of the hidden state of each layer.
        layers: number of layers.
        output: ``last`` predicts from each sample's last step, ``every`` from each step.
        match_parameters: number of parameters to come nearest to by the choice of ``hidden_dim``,
            whose own value is then not used; None to take ``hidden_dim``.

    Raises:
        ArgumentError: a value is out of range.
    """

    recurrent_type = nn.LSTM


class GRU(_Gated):
    """Gated recurrent network: ``torch.nn.GRU`` and a linear readout; arguments as of ``LSTM``."""

    recurrent_type = nn.GRU


class Transformer(ExplicitNetwork):
    """Small causal transformer: ``torch.nn.TransformerEncoder`` and a linear readout.

    Inputs are mapped to ``hidden_dim`` features, to which the sine and cosine positions of Vaswani
    et al. (2017, arXiv 1706.03762, section 3.5) are added, so that sequences may be longer than
    those of the training. A step attends to itself and to earlier ones only, as a recurrent network
    does. Layers are normalised first and have feed-forward parts twice as wide; there is no
    dropout.

    Args:
        input_dim: p, features of one step.
        output_dim: q.
        hidden_dim: features of each step, a multiple of ``heads``.
        heads: attention heads.
        layers: number of layers.
        output: ``last`` predicts from each sample's last step, ``every`` from each step.
        match_parameters: number of parameters to come nearest to by the choice of ``hidden_dim``,
            whose own value is then not used; None to take ``hidden_dim``.

    Raises:
        ArgumentError: a value is out of range.
    """

    takes_sequences = True

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        hidden_dim: int = TransformerOptions.hidden_dim,
        *,
        heads: int = TransformerOptions.heads,
        layers: int = TransformerOptions.layers,
        output: SequenceOutput = TransformerOptions.output,
        match_parameters: int | None = TransformerOptions.match_parameters,
    ) -> None:
        super().__init__()
        check_positive({"input_dim": input_dim, "output_dim": output_dim})
        if match_parameters is not None:
            hidden_dim = heads * nearest_width(
                lambda width: Transformer(
                    input_dim, output_dim, heads * width, heads=heads, layers=layers
                ),
                match_parameters,
            )
        sizes = {"hidden_dim": hidden_dim, "heads": heads, "layers": layers}
        check_options(TransformerOptions, sizes | {"output": output})
        self.input_dim, self.output_dim = input_dim, output_dim
        self.hidden_dim, self.heads, self.layers = hidden_dim, heads, layers
        self.output = output
        self.embedding = nn.Linear(input_dim, hidden_dim)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(
                hidden_dim,
                heads,
                dim_feedforward=2 * hidden_dim,
                dropout=0.0,
                batch_first=True,
                norm_first=True,
            ),
            layers,
            norm=nn.LayerNorm(hidden_dim),
            enable_nested_tensor=False,
        )
        self.readout = nn.Linear(hidden_dim, output_dim)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Predict; arguments and result as for ``LSTM.forward``."""
        inputs = as_sequences(inputs, lengths, self.input_dim)
        steps = inputs.shape[1]
        embedded = self.embedding(inputs)
        embedded = embedded + _positions(steps, self.hidden_dim).to(embedded)
        later = torch.ones(steps, steps, dtype=torch.bool, device=inputs.device).triu(1)
        # Causal: what stands beyond a sample's length is never attended to by its own steps.
        hidden = self.encoder(embedded, mask=later)
        if self.output == "last":
            if lengths is None:
                hidden = hidden[:, -1]
            else:
                samples = torch.arange(len(inputs), device=inputs.device)
                hidden = hidden[samples, lengths.to(inputs.device) - 1]
        return cast(Tensor, self.readout(hidden))


class MatchedMLP(MLP):
    """A fully connected network on the flattened input, of a wished size where one is given.

    Args:
        input_dim: entries of one flattened input.
        output_dim: q.
        hidden_dims: width of each hidden layer.
        activation: name of the activation after each hidden layer.
        bias: whether the layers have offsets.
        match_parameters: number of parameters to come nearest to: the widest layer is chosen, and
            the others keep their proportion to it (rounded, at least 1); None to take
            ``hidden_dims`` as it is.

    Raises:
        ArgumentError: a value is out of range.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        *,
        hidden_dims: Sequence[int] = MlpOptions.hidden_dims,
        activation: str = MlpOptions.activation,
        bias: bool = MlpOptions.bias,
        match_parameters: int | None = MlpOptions.match_parameters,
    ) -> None:
        def make(widths: Sequence[int]) -> MLP:
            shape = (input_dim,)
            return MLP(shape, output_dim, hidden_dims=widths, activation=activation, bias=bias)

        def scaled(widest: int) -> list[int]:
            return [max(1, round(width * widest / max(hidden_dims))) for width in hidden_dims]

        if match_parameters is not None and hidden_dims and min(hidden_dims) > 0:
            hidden_dims = scaled(nearest_width(lambda width: make(scaled(width)), match_parameters))
        super().__init__(
            (input_dim,), output_dim, hidden_dims=hidden_dims, activation=activation, bias=bias
        )


def _positions(steps: int, features: int) -> Tensor:
    """Return the sine and cosine positions (steps, features)."""
    position = torch.arange(steps, dtype=torch.float64)[:, None]
    frequency = torch.exp(
        torch.arange(0, features, 2, dtype=torch.float64) * (-math.log(1e4) / features)
    )
    angle = position * frequency
    return torch.stack((angle.sin(), angle.cos()), dim=2).flatten(1)[:, :features]
