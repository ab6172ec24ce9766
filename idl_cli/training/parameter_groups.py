"""Which parameters weight decay is for."""

from __future__ import annotations

from typing import Any

from torch import nn

from idl_cli.models.parametrizations.model import ParametrizedModel

Groups = list[dict[str, Any]]
"""Groups of parameters, as torch's optimisers take them."""


def decay_groups(model: nn.Module) -> Groups:
    """Return the parameters that decay and those that do not, as two groups.

    Vectors (biases, gains of a normalisation) do not decay: they are few, and shrinking them
    regularises nothing (Goodfellow, Bengio and Courville, "Deep Learning", 2016, section 7.1). Nor
    do the parameters of an A whose norm a constraint bounds: κ is its regularisation, which the
    projection keeps exactly; decay would take every row off its bound after the projection had put
    it there, and leave less feedback than κ allows. An A without such a bound decays as all
    matrices do.

    Args:
        model: parameters that need no gradient are left out.

    Returns:
        One group, and one of ``weight_decay`` 0; without those that are empty.
    """
    bounded = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, ParametrizedModel)
        for parameter in module.bounded_parameters()
    }
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    kept = [p for p in trained if p.ndim < 2 or id(p) in bounded]
    decaying = [p for p in trained if not (p.ndim < 2 or id(p) in bounded)]
    groups: Groups = [{"params": decaying}, {"params": kept, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
