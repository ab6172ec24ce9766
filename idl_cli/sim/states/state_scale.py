"""Rescale recorded states so that an exact solution with ‖A‖∞ ≤ κ exists.

For positively homogeneous φ the states x/t and pre-activations z/t of a teacher, t > 0, obey the
same equations with A replaced by diag(t)⁻¹ A diag(t); t is the one of ``models.rescaling``. The
statistics G, H and ‖z‖² of the rescaled states follow exactly from those of the raw ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from idl_cli.models.rescaling import contraction_scale, require_scale
from idl_cli.sim.states.affine_check import state_columns
from idl_cli.sim.states.hooks import left_as_found
from idl_cli.sim.states.layout import StateRecorder
from idl_cli.sim.states.recorders import ImplicitRecorder, NetworkRecorder

_CHUNK_ENTRIES = 4_000_000
"""Entries of the states held at once while columns of A are read: 16 MB in float32."""


def why_not_rescalable(recorder: StateRecorder) -> str | None:
    """Why the states of a teacher cannot be rescaled exactly, None when they can."""
    activation = recorder.layout.activation
    if not activation.positively_homogeneous:
        return f"{activation.name} is not positively homogeneous, scaled states would not obey it"
    if isinstance(recorder, NetworkRecorder) and not recorder.is_exact:
        return "the states named are matched approximately, the teacher's own A is not known"
    return None


def state_scale(recorder: StateRecorder, kappa: float) -> Tensor:
    """The scale t (n,) float64 to divide the states by, t >= 1.

    An implicit teacher whose ‖A‖∞ is at most κ already has its exact solution: t = 1. In all other
    cases t = (I − |A|/κ)⁻¹ 1.

    Args:
        recorder: of a teacher for which ``why_not_rescalable`` is None.
        kappa: in (0, 1).

    Raises:
        UnsupportedModelError: an implicit teacher's spectral radius of |A| is κ or more.
    """
    if isinstance(recorder, ImplicitRecorder):
        A = recorder.model.effective_weights().A.double()
        # A stored float32 matrix on the boundary may exceed κ by its last digits.
        if float(A.abs().sum(dim=1).max()) <= kappa * (1 + 1e-6):
            return torch.ones(len(A), dtype=torch.float64, device=A.device)
        return contraction_scale(A, kappa)
    assert isinstance(recorder, NetworkRecorder)
    return _feedforward_scale(recorder, kappa)


def _feedforward_scale(recorder: NetworkRecorder, kappa: float) -> Tensor:
    """T by substitution, layer after layer: t_l = 1 + (|A| t)_l / κ needs only earlier layers.

    The columns of A are read off the network itself (a basis vector in place of a state), so this
    is exact for every affine layer, convolutions included, and never holds A.
    """
    sizes = recorder.layout.sizes[::-1]  # in the order of the calls
    network, modules = recorder.probe.network, recorder.probe.modules
    probe = recorder.probe.inputs[:1]
    sums = [torch.zeros(size, dtype=torch.float64, device=probe.device) for size in sizes]
    entries = sum(sizes) + probe[0].numel()
    chunk = max(1, _CHUNK_ENTRIES // entries)
    scales: list[Tensor] = []
    with left_as_found(network):
        for block, _ in enumerate(sizes):
            scale = 1 + sums[block] / kappa
            scales.append(scale)
            if block == len(sizes) - 1:
                break
            for columns, by_block in state_columns(
                network, modules, probe, block=block, chunk=chunk
            ):
                for later in range(block + 1, len(sizes)):
                    sums[later] += scale[columns] @ by_block[later].double().abs()
    result = torch.cat(scales[::-1])
    require_scale(result)
    return result
