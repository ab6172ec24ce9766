"""Pruning: the baselines of every sparse model, each from its paper.

A pruner sets weights of a network to zero, in place, until a number of non-zeros is left. Those
that reconstruct layers need inputs to do it with, but no labels.
"""

from idl_cli.models.pruning.counts import count_nonzeros, smallest_pruned_count
from idl_cli.models.pruning.magnitude import prune_by_magnitude

__all__ = ["count_nonzeros", "prune_by_magnitude", "smallest_pruned_count"]
