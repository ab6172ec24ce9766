"""What a state-driven training comes to, and where another one may begin."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from idl_cli.sim.fit.equilibria import Equilibria
from idl_cli.sim.fit.fitted_model import FittedModel
from idl_cli.sim.fit.options import SimOptions
from idl_cli.sim.fit.sparse.refinement import Refinement
from idl_cli.sim.regression.problem import RowRegression
from idl_cli.sim.regression.solve import Solution
from idl_cli.sim.regression.solver import Start
from idl_cli.sim.states.recording import Recording


@dataclass(frozen=True, eq=False)
class StageFit:
    """The answer of one stage.

    Attributes:
        problem: what was solved; of this process's rows where the statistics are split. None of
            layers whose features are their own (``structure=convolution``).
        solution: weights and certificate.
        seconds: wall-clock time, the certificate included.
        penalty: λ in absolute units, of the row where it is largest.
        row_r2: r² of every row against its target (rows,), see ``row_fit``.
    """

    problem: RowRegression | None
    solution: Solution
    seconds: float
    penalty: float
    row_r2: Tensor


@dataclass(frozen=True, eq=False)
class Starts:
    """Where the solves of both stages begin.

    Attributes:
        ab: of stage [A B].
        cd: of stage [C D].
    """

    ab: Start
    cd: Start

    @classmethod
    def zero(cls, recording: Recording) -> Starts:
        """All weights zero: the answer at λ_max, where a path begins; of the rows of all ranks."""
        layout, gram = recording.recorder.layout, recording.statistics.gram
        rows = (layout.state_dim, layout.output_dim)
        ab, cd = (gram.new_zeros(count, layout.feature_dim) for count in rows)
        return cls(Start(ab), Start(cd))


@dataclass(frozen=True, eq=False)
class Fit:
    """A trained implicit model and how it came about.

    Attributes:
        options: what was asked for; its λ are those of this fit.
        model: in the dtype asked for.
        ab: stage [A B].
        cd: stage [C D].
        state_fit: ‖AX + BU − Z‖_F / ‖Z‖_F over all states, in the teacher's own units.
        equilibria: of the second pass; None where C and D were fitted on the teacher's states.
        seconds_equilibria: wall-clock time of the second pass.
        teacher_parameters: number of the teacher's parameters, which ``options.nonzeros`` is a
            share of; None without a limit on non-zeros.
        refinement: what moving the kept weights together did; None where they were not. The
            certificates are those of the fit before it.
        seconds_refinement: wall-clock time of it.
    """

    options: SimOptions
    model: FittedModel
    ab: StageFit
    cd: StageFit
    state_fit: float
    equilibria: Equilibria | None
    seconds_equilibria: float
    teacher_parameters: int | None = None
    refinement: Refinement | None = None
    seconds_refinement: float = 0.0

    @property
    def starts(self) -> Starts:
        """Where a fit at another λ may begin."""
        ab, cd = self.ab.solution.start, self.cd.solution.start
        assert ab is not None
        assert cd is not None
        return Starts(ab, cd)

    @property
    def nonzeros(self) -> int:
        """Entries of the model's parameters, biases included, that are not zero."""
        return sum(int((each != 0).sum()) for each in self.model.parameters())

    @property
    def nonzero_fraction(self) -> float:
        """Their share of all entries that the model keeps."""
        return self.nonzeros / sum(each.numel() for each in self.model.parameters())
