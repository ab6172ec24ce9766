"""Attacks: inputs in a ball around each sample that a model classifies wrongly.

Each is called as ``Attack`` says, with a model, a batch, its labels, ε and the valid range. What
they find bounds the true robust accuracy from above, as a certificate does from below.
"""

from idl_cli.evaluation.attacks.ball import Ball, ValidRange
from idl_cli.evaluation.attacks.euclidean import EuclideanPgd
from idl_cli.evaluation.attacks.fgsm import Fgsm
from idl_cli.evaluation.attacks.multi_targeted import MultiTargeted
from idl_cli.evaluation.attacks.options import FgsmOptions, MultiTargetedOptions, PgdOptions
from idl_cli.evaluation.attacks.pgd import Pgd
from idl_cli.evaluation.attacks.search import Attack, AttackResult
from idl_cli.evaluation.attacks.strongest import Strongest

__all__ = [
    "Attack",
    "AttackResult",
    "Ball",
    "EuclideanPgd",
    "Fgsm",
    "FgsmOptions",
    "MultiTargeted",
    "MultiTargetedOptions",
    "Pgd",
    "PgdOptions",
    "Strongest",
    "ValidRange",
]
