"""From weights to a model that can be measured and kept, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch
from torch import Tensor, nn

from idl_cli.errors import ConfigError
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.sparse.conversion import in_levels, weights_of
from idl_cli.models.sparse.model import SparseImplicitModel
from idl_cli.models.sparse.scaling import is_acyclic
from idl_cli.models.sparse.weights import SparseWeights
from idl_cli.run import LoadedRun
from idl_cli.run.sparse_tensors import packed


@dataclass(frozen=True, eq=False)
class Stage:
    """A model on its way to being smaller.

    Attributes:
        label: for people.
        model: in evaluation mode.
        weights: in use, in float64.
        bound: proven bound of each output's distance to the run's model (q,).
    """

    label: str
    model: nn.Module
    weights: SparseWeights
    bound: np.ndarray

    @property
    def stored_bytes(self) -> int:
        """What the tensors take in a run's ``model.safetensors``."""
        state = {name: tensor.detach().cpu() for name, tensor in self.model.state_dict().items()}
        return sum(tensor.nbytes for tensor in packed(state)[0].values())


def weights_in_order(loaded: LoadedRun) -> SparseWeights:
    """The weights of a run's model, in blocks where no state feeds back on itself.

    Raises:
        ConfigError: the run's model is no implicit one.
    """
    model = loaded.model
    if isinstance(model, SparseImplicitModel):
        return model.weights()
    if not isinstance(model, ImplicitModel):
        raise ConfigError(
            [
                f"run={loaded.path}: holds a model={loaded.name}; implicit models are compressed, "
                "and feed-forward networks after `idl convert`"
            ]
        )
    weights = weights_of(model)
    return in_levels(weights) if is_acyclic(weights.A) else weights


def model_of(weights: SparseWeights, original: nn.Module, *, quantized: bool = False) -> nn.Module:
    """A model of these weights: sparse where one sweep solves it, as the original otherwise.

    Args:
        weights: blocks in order where there are several.
        original: whose dtype, device, κ and ways to solve it takes.
        quantized: whether the weights are multiples of a step a row, to be stored as such.
    """
    first = next(original.parameters())
    if weights.is_triangular:
        made = SparseImplicitModel.from_weights(weights, first.dtype, quantized=quantized)
        return made.to(first.device).eval()
    assert isinstance(original, ImplicitModel)

    def dense(matrix: scipy.sparse.csr_matrix) -> Tensor:
        return torch.from_numpy(matrix.toarray()).to(first)

    return ImplicitModel.from_weights(
        dense(weights.A),
        dense(weights.B),
        dense(weights.C),
        None if original.D is None else dense(weights.D),
        state_bias=torch.from_numpy(weights.state_bias).to(first),
        output_bias=torch.from_numpy(weights.output_bias).to(first),
        activation=original.activation.name,
        kappa=original.kappa,
        well_posedness=original.well_posedness,
        forward=original.forward_settings,
        backward=original.backward_settings,
    ).eval()


def stored_weights(model: nn.Module) -> SparseWeights:
    """The weights that a model made by ``model_of`` really has, after rounding to its dtype."""
    if isinstance(model, SparseImplicitModel):
        return model.weights()
    assert isinstance(model, ImplicitModel)
    return weights_of(model)
