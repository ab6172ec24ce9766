"""The weights of a teacher as an implicit model, read off the network itself."""

from __future__ import annotations

import torch
from torch import Tensor

from idl_cli.errors import UnsupportedModelError
from idl_cli.models.implicit import ImplicitModel
from idl_cli.sim.states.affine_check import offsets
from idl_cli.sim.states.hooks import left_as_found, trace
from idl_cli.sim.states.layout import StateRecorder
from idl_cli.sim.states.recorders import ImplicitRecorder, NetworkRecorder

_CHUNK_ENTRIES = 4_000_000
"""Entries of states and inputs held at once while columns are read: 16 MB in float32."""


def implicit_form(recorder: StateRecorder) -> ImplicitModel:
    """The teacher as an implicit model over the states of ``recorder.layout``.

    A basis vector in place of states and inputs gives a column of A, B, C and D. A network's A is
    strictly upper triangular, so its states take one sweep. In the teacher's dtype.

    Raises:
        UnsupportedModelError: the teacher is matched approximately, its weights are not known.
    """
    if isinstance(recorder, ImplicitRecorder):
        return recorder.model
    assert isinstance(recorder, NetworkRecorder)
    if not recorder.is_exact:
        raise UnsupportedModelError(
            "trainer.nonzeros: the states named are matched approximately, so that the teacher's "
            "own weights are not known; leave teacher.states at null"
        )
    layout, network, modules = recorder.layout, recorder.probe.network, recorder.probe.modules
    probe = recorder.probe.inputs[:1]
    n, p = layout.state_dim, layout.input_dim
    with left_as_found(network):
        by_call, output_bias = offsets(network, modules, probe)
        state_bias = torch.cat(by_call[::-1])
        chunk = max(1, _CHUNK_ENTRIES // (n + p))
        columns = []
        for start in range(0, n + p, chunk):
            basis = probe.new_zeros(min(chunk, n + p - start), n + p)
            basis.diagonal(start).fill_(1)
            states = recorder.blocks(basis[:, :n])[::-1]
            inputs = basis[:, n:].reshape(len(basis), *probe.shape[1:])
            run = trace(network, modules, inputs, states)
            reached = torch.cat([call.pre_activation for call in run.calls[::-1]], dim=1)
            columns.append(torch.cat([reached - state_bias, run.outputs - output_bias], dim=1))
    weights: Tensor = torch.cat(columns).T
    return ImplicitModel.from_weights(
        weights[:n, :n],
        weights[:n, n:],
        weights[n:, :n],
        weights[n:, n:],
        state_bias=state_bias if layout.has_bias else None,
        output_bias=output_bias if layout.has_bias else None,
        activation=layout.activation.name,
        well_posedness="triangular",
    )
