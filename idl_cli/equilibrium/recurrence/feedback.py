"""What A alone tells of the solves of a recurrence's steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from idl_cli.equilibrium.activations import Activation
from idl_cli.equilibrium.operators import DenseOperator, Operator
from idl_cli.equilibrium.problem import EquilibriumProblem
from idl_cli.equilibrium.recurrence.modulus import Modulus
from idl_cli.equilibrium.recurrence.together import Together
from idl_cli.equilibrium.residual import reachable

# Methods whose solves are looked at ``together`` here, by modulus iterations where these pay.
OF_STEPS = frozenset(("picard", "auto"))

# Below this contraction a solve takes fewer than ten iterations, too few to save any.
_MODULUS_RATE = 0.2


@dataclass(frozen=True)
class Feedback:
    """What A alone tells of its solves, forward and backward.

    Attributes:
        rate: an estimate of the contraction of one iteration.
        modulus: K of the modulus iteration, where that converges and saves more than it costs.
        samples: most samples of a step.
    """

    rate: float
    modulus: Modulus | None
    samples: int

    @classmethod
    def of(cls, operator: Operator, activation: Activation, samples: int) -> Feedback:
        """Look at A once for all solves of a sequence.

        The rate is estimated by ‖A‖_F / √(2n). An iteration would contract by it if A were a random
        matrix and half of the states were active (circular law); trained matrices have directions
        that contract slower.

        Args:
            operator: A.
            activation: φ.
            samples: most samples of a step.
        """
        if isinstance(operator, DenseOperator):
            norm, largest = torch.stack(
                (
                    torch.linalg.vector_norm(operator.matrix),
                    operator.matrix.abs().sum(dim=1).amax(),
                )
            ).tolist()
        else:
            norm, largest = operator.frobenius_norm(), math.inf
        rate = norm / math.sqrt(2 * operator.size)
        modulus = None
        if (
            isinstance(operator, DenseOperator)
            and activation.name == "relu"
            and largest < 1
            and rate >= _MODULUS_RATE
        ):
            modulus = Modulus(operator.matrix, samples)
        return cls(rate, modulus, samples)

    def least_iterations(self, tol: float) -> int:
        """Return how many iterations a solve takes at least, as far as can be told."""
        if not 0 < self.rate < 1 or not tol < 1:
            return 2
        return max(2, min(int(math.log(tol) / math.log(self.rate)), 20))

    def release(self) -> None:
        """Let go of the memory to work in: between forward and backward it would only be held."""
        if self.modulus is not None:
            self.modulus.release()

    def policy(self, tol: float, dtype: torch.dtype) -> Together:
        """Return when the solves of all steps are looked at."""
        return Together(first_check=self.least_iterations(tol), rounding=reachable(0, dtype))


def feedback_of(problem: EquilibriumProblem, operator: Operator, samples: int) -> Feedback | None:
    """Return what A tells of the solves; None where none of them iterates by it.

    Arguments as of ``Feedback.of``, with the activation and the methods in ``problem``.
    """
    # Where a plain step swings, so does one of the adjoint, which is then left to what solves it.
    damped = problem.forward.damping < 1
    iterative = {problem.forward.method, problem.backward.method} & OF_STEPS
    if operator.nilpotent or damped or not iterative:
        return None
    return Feedback.of(operator, problem.activation, samples)
