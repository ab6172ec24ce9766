"""The implicit model: x = φ(Ax + Bu + b), ŷ = Cx + Du + c."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from idl_cli.config.arguments import check_options
from idl_cli.equilibrium.activations import get_activation
from idl_cli.equilibrium.conditions import WellPosedness
from idl_cli.equilibrium.constraints import project_rows_l1_
from idl_cli.equilibrium.gradient.implicit_gradient import equilibrium
from idl_cli.equilibrium.precision import full_precision, solving_dtype
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings, of_known_equation
from idl_cli.equilibrium.statistics import SolveStatistics
from idl_cli.equilibrium.step_graphs import StepGraphs
from idl_cli.errors import ArgumentError
from idl_cli.json_value import JSONValue
from idl_cli.models.base import flat_inputs, outside_compiled_graphs
from idl_cli.models.given_weights import ImplicitWeights as ImplicitWeights
from idl_cli.models.given_weights import check_feedback, checked_dimensions
from idl_cli.models.options import ImplicitOptions
from idl_cli.models.parametrizations.choose import check_architecture
from idl_cli.models.parametrizations.model import FeedbackModel
from idl_cli.models.solve_settings import settings_of
from idl_cli.models.whitening import Whitening


class ImplicitModel(FeedbackModel):
    """Implicit model of El Ghaoui et al. (SIAM J. Math. Data Sci. 3(3), 2021, arXiv 1908.06315).

    For an input u in R^p the state x in R^n solves x = φ(Ax + Bu + b) and the prediction is
    ŷ = Cx + Du + c in R^q. Parameters: ``A`` (n, n), or ``L`` and ``R`` (n, r) with A = L Rᵀ;
    ``B`` (n, p), ``C`` (q, n), ``D`` (q, p), ``state_bias`` (n,), ``output_bias`` (q,).

    Initialisation. A is uniform with rows of l1 norm about κ/2: strictly inside the ball, where the
    gradient sees no constraint, and quick to solve, while the feedback is felt from the first step.
    The factors of a low-rank A are uniform in the same way, each with half of √κ. B, C, D and the
    biases are uniform within ±1/√(fan-in), as torch's linear layers are.

    Args:
        input_dim: p; the product of the trailing dimensions of the input.
        output_dim: q.
        hidden_dim: n.
        rank: r of A = L Rᵀ, 1 <= r <= n; None for a full matrix.
        kappa: κ of ‖A‖∞ ≤ κ, in (0, 1); for low rank ‖L‖∞ and ‖Rᵀ‖∞ are kept below √κ each, so
            that ‖A‖∞ up to κ stays within reach. 0.95 leaves the feedback strong and a solve within
            some hundred iterations in the worst case.
        bias: whether there are ``state_bias`` and ``output_bias``.
        no_D: leaves out the direct term Du.
        whiten: k, of the principal components of the training inputs that B and D see in place of
            the inputs, each of variance one; they are (n, k) and (q, k) then. None for the inputs
            themselves. ``fit_inputs`` takes the components.
        dropout: share p in [0, 1) of the states that the prediction does without in training: it
            is C(m ⊙ x)/(1-p) + Du + c with m 0 or 1, drawn anew for every sample and call (Hinton
            et al., arXiv 1207.0580). The equation is the same as in evaluation; x = m ⊙ φ(…)/(1-p)
            would have a matrix of norm κ/(1-p), and without the division other states than are
            evaluated.
        cuda_graphs: whether a GPU's plain steps are recorded as CUDA graphs (``StepGraphs``).
        activation: name of φ.
        well_posedness: ``linf`` keeps every row of A in the l1 ball of radius κ, ``triangular``
            keeps A strictly upper triangular (a feed-forward network, solved in one sweep),
            ``none`` keeps nothing and warns.
        forward: how equilibria are solved: settings or their fields.
        backward: how gradients are solved: settings or their fields.

    Raises:
        ArgumentError: a value is out of range or two contradict each other; all are named at once.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        hidden_dim: int,
        *,
        rank: int | None = ImplicitOptions.rank,
        kappa: float = ImplicitOptions.kappa,
        bias: bool = ImplicitOptions.bias,
        no_D: bool = ImplicitOptions.no_D,
        whiten: int | None = ImplicitOptions.whiten,
        dropout: float = ImplicitOptions.dropout,
        cuda_graphs: bool = ImplicitOptions.cuda_graphs,
        activation: str = ImplicitOptions.activation,
        well_posedness: WellPosedness = ImplicitOptions.well_posedness,
        forward: FixedPointSettings | Mapping[str, Any] | None = None,
        backward: AdjointSettings | Mapping[str, Any] | None = None,
    ) -> None:
        check_options(ImplicitOptions, {"dropout": dropout, "whiten": whiten})
        if whiten is not None and whiten > input_dim:
            raise ArgumentError(
                f"whiten={whiten}: must be at most the {input_dim} values of an input"
            )
        check_architecture(
            {"input_dim": input_dim, "output_dim": output_dim, "hidden_dim": hidden_dim},
            rank=rank,
            kappa=kappa,
            activation=activation,
            well_posedness=well_posedness,
        )
        super().__init__(hidden_dim, rank=rank, kappa=kappa, well_posedness=well_posedness)
        self.input_dim = input_dim
        self.output_dim = output_dim
        self.dropout = dropout
        self.activation = get_activation(activation)
        self.forward_settings = settings_of(FixedPointSettings, forward, "forward")
        self.backward_settings = of_known_equation(
            settings_of(AdjointSettings, backward, "backward")
        )
        self._solve_statistics = SolveStatistics()
        self._graphs = StepGraphs() if cuda_graphs else None
        self.whitening = None if whiten is None else Whitening(input_dim, whiten)
        seen = input_dim if whiten is None else whiten
        self.B = nn.Parameter(torch.empty(hidden_dim, seen))
        self.C = nn.Parameter(torch.empty(output_dim, hidden_dim))
        self.D = None if no_D else nn.Parameter(torch.empty(output_dim, seen))
        self.state_bias = nn.Parameter(torch.empty(hidden_dim)) if bias else None
        self.output_bias = nn.Parameter(torch.empty(output_dim)) if bias else None
        self.reset_parameters()

    @classmethod
    def from_weights(
        cls,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None = None,
        *,
        state_bias: Tensor | None = None,
        output_bias: Tensor | None = None,
        activation: str = ImplicitOptions.activation,
        kappa: float = ImplicitOptions.kappa,
        well_posedness: WellPosedness = ImplicitOptions.well_posedness,
        forward: FixedPointSettings | Mapping[str, Any] | None = None,
        backward: AdjointSettings | Mapping[str, Any] | None = None,
    ) -> ImplicitModel:
        """Make a model of given weights, which are copied; dtype and device are those of A.

        Args:
            A: (n, n); with ``linf`` its rows must lie in the l1 ball of radius κ, with
                ``triangular`` it must be strictly upper triangular. It is never changed to fit.
            B: (n, p).
            C: (q, n).
            D: (q, p); None for a model without it.
            state_bias: (n,); a model with only one of the biases holds zeros for the other.
            output_bias: (q,).
            activation: name of φ.
            kappa: κ.
            well_posedness: as in the constructor.
            forward: as in the constructor.
            backward: as in the constructor.

        Raises:
            ShapeError: the shapes do not fit together.
            ArgumentError: A is not in the set that ``well_posedness`` names.
        """
        given = {
            "A": A,
            "B": B,
            "C": C,
            "D": D,
            "state_bias": state_bias,
            "output_bias": output_bias,
        }
        n, p, q = checked_dimensions(given)
        check_feedback(A, kappa=kappa, well_posedness=well_posedness)
        model = cls(
            p,
            q,
            n,
            kappa=kappa,
            bias=state_bias is not None or output_bias is not None,
            no_D=D is None,
            activation=activation,
            well_posedness=well_posedness,
            forward=forward,
            backward=backward,
        ).to(device=A.device, dtype=A.dtype)
        with torch.no_grad():
            for name, tensor in given.items():
                parameter = getattr(model, name)
                if parameter is not None:
                    parameter.copy_(torch.zeros_like(parameter) if tensor is None else tensor)
        return model

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the parameters anew from torch's global generator; see the class for how."""
        self.reset_feedback()
        input_bound, state_bound = 1 / math.sqrt(self.B.shape[1]), 1 / math.sqrt(self.hidden_dim)
        self.B.uniform_(-input_bound, input_bound)
        self.C.uniform_(-state_bound, state_bound)
        if self.D is not None:
            self.D.uniform_(-input_bound, input_bound)
        if self.state_bias is not None and self.output_bias is not None:
            self.state_bias.uniform_(-input_bound, input_bound)
            self.output_bias.uniform_(-state_bound, state_bound)

    def fit_inputs(self, batches: Iterable[Tensor]) -> None:
        """Take the principal components of the inputs with ``whiten``; see ``Whitening.fit_``."""
        if self.whitening is not None:
            self.whitening.fit_(batches)

    def forward(self, inputs: Tensor) -> Tensor:
        """Predict.

        Args:
            inputs: u (m, ...), trailing dimensions flattened to p; dtype of the parameters.

        Returns:
            ŷ (m, q).

        Raises:
            ShapeError: the input has another size or dtype.
        """
        u = self._flatten(inputs)
        x = self._equilibrium_eager(u)
        read = functional.dropout(x, self.dropout) if self.training and self.dropout else x
        prediction = self.few_nonzeros.linear("C", read, self.C, self.output_bias)
        if self.D is None:
            return prediction
        return prediction + self.few_nonzeros.linear("D", u, self.D, None)

    def equilibrium(self, inputs: Tensor, *, start: Tensor | None = None) -> Tensor:
        """Return the equilibrium states x (m, n) of the inputs.

        Args:
            inputs: u (m, ...), as for the prediction.
            start: first iterates (m, n); φ(Bu + b) where it is None.

        Raises:
            ShapeError: an argument has another size or dtype.
        """
        return self._equilibrium_eager(self._flatten(inputs), start)

    def solve(
        self,
        offset: Tensor,
        *,
        start: Tensor | None = None,
        statistics: SolveStatistics | None = None,
    ) -> Tensor:
        """Return the x (m, n) with x = φ(Ax + b).

        Args:
            offset: b = Bu + bias of every sample (m, n), in the model's dtype or a wider one, in
                which the equation is then solved.
            start: first iterates (m, n); φ(b) where it is None.
            statistics: where the solve is counted; None counts it nowhere.
        """
        operator, order = self.ordered_operator()
        if offset.dtype != self.B.dtype:
            operator = operator.to(offset.dtype)
            start = None if start is None else start.to(offset.dtype)
        if order is not None:
            offset = offset[:, order]
            start = None if start is None else start[:, order]
        x = equilibrium(
            operator,
            offset,
            self.activation,
            forward=self.forward_settings,
            backward=self.backward_settings,
            start=start,
            statistics=statistics,
            graphs=self._graphs,
        )
        return x if order is None else x[:, order.argsort()]

    @torch.no_grad()
    def effective_weights(self) -> ImplicitWeights:
        """Return the matrices in use: A with its constraint applied (and its product formed)."""
        operator = self.operator()
        dtype = solving_dtype(self.B.dtype)
        matrix = operator.to(dtype).to_dense().to(self.B.dtype)
        if dtype != matrix.dtype and len(operator.factors) > 1 and self.well_posedness == "linf":
            project_rows_l1_(matrix, self.kappa)  # half precision rounds rows beyond the ball
        B, state_bias = self._of_inputs(self.B, self.state_bias)
        D = self.B.new_zeros(self.output_dim, self.B.shape[1]) if self.D is None else self.D
        D, output_bias = self._of_inputs(D, self.output_bias)
        A, C = matrix.detach().clone(), self.C.detach().clone()
        return ImplicitWeights(A=A, B=B, C=C, D=D, state_bias=state_bias, output_bias=output_bias)

    def _of_inputs(self, matrix: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return copies of B or D, as it acts on the inputs themselves, and of the bias with it."""
        bias = matrix.new_zeros(len(matrix)) if bias is None else bias
        if self.whitening is None:
            return matrix.detach().clone(), bias.detach().clone()
        unfolded, constant = self.whitening.unfold(matrix.detach())
        return unfolded, bias.detach() + constant

    @property
    def solve_statistics(self) -> SolveStatistics:
        """The counts of this model's solves since their last reset."""
        return self._solve_statistics

    def constructor_arguments(self) -> dict[str, JSONValue]:
        """Return the keyword arguments that make a model of this architecture again."""
        return {
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "hidden_dim": self.hidden_dim,
            "rank": self.rank,
            "kappa": self.kappa,
            "bias": self.state_bias is not None,
            "no_D": self.D is None,
            "whiten": None if self.whitening is None else len(self.whitening.directions),
            "dropout": self.dropout,
            "cuda_graphs": self._graphs is not None,
            "activation": self.activation.name,
            "well_posedness": self.well_posedness,
            "forward": asdict(self.forward_settings),
            "backward": asdict(self.backward_settings),
        }

    def extra_repr(self) -> str:
        """Return what ``print(model)`` shows."""
        rank = "" if self.rank is None else f", rank={self.rank}"
        return (
            f"input_dim={self.input_dim}, output_dim={self.output_dim}, "
            f"hidden_dim={self.hidden_dim}{rank}, activation={self.activation.name}, "
            f"well_posedness={self.well_posedness}, kappa={self.kappa:g}"
        )

    def _flatten(self, inputs: Tensor) -> Tensor:
        u = flat_inputs(inputs, self.input_dim, self.B.dtype)
        return u if self.whitening is None else self.whitening(u)

    def _equilibrium_eager(self, u: Tensor, start: Tensor | None = None) -> Tensor:
        return outside_compiled_graphs(ImplicitModel._equilibrium, self, u, start)

    def _equilibrium(self, u: Tensor, start: Tensor | None) -> Tensor:
        with full_precision(u.device.type):
            dtype = solving_dtype(self.B.dtype)
            bias: Tensor | None = None if self.state_bias is None else self.state_bias.to(dtype)
            offset = self.few_nonzeros.linear("B", u.to(dtype), self.B.to(dtype), bias)
            states = self.solve(offset, start=start, statistics=self._solve_statistics)
            return states.to(self.B.dtype)
