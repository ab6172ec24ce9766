"""What a state-driven training would cost: its passes timed on one batch, its solves counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn

from idl_cli.data.loader import BatchLoader
from idl_cli.distributed.group import Group
from idl_cli.sim.sim import SIM
from idl_cli.sim.solvers.supports.elimination import BATCH_BYTES
from idl_cli.sim.states.convolution_recorder import ConvolutionRecorder
from idl_cli.sim.states.convolution_recording import record_convolutions
from idl_cli.sim.states.layout import StateLayout
from idl_cli.sim.states.recorders import state_recorder
from idl_cli.sim.states.recording import OUTPUTS, PRE_ACTIVATIONS, DataPass
from idl_cli.sim.statistics.dense import SufficientStatistics

_GIB = 2**30
_FACTORISATION = 10  # a symmetric eigendecomposition takes about 9 D³ operations
_STEPS = 1000  # first-order steps to a gap of 1e-6 on problems of some hundred rows, 2 n D² each
_ELIMINATION = 2 / 3  # operations a row and D³: with j weights left a removal takes 2 j²
_COPIES = 4  # the Gram matrix, its eigenvectors, and two matrices of a solver's own


@dataclass(frozen=True)
class SimEstimate:
    """Expected cost of a state-driven training.

    Attributes:
        states: n.
        features: D = n + p, the constant included; of the widest layer with kernels.
        outputs: q.
        samples: m.
        memory_bytes: of the statistics and a solver, whatever the number of samples.
        seconds_passes: all passes over the data, as one batch took here.
        seconds_solve: order of magnitude of both solves, from this machine's matrix products.
    """

    states: int
    features: int
    outputs: int
    samples: int
    memory_bytes: int
    seconds_passes: float
    seconds_solve: float

    def described(self) -> dict[str, object]:
        """The estimate as named values for people."""
        return {
            "problem": f"n = {self.states:,} states, D = {self.features:,} features, "
            f"q = {self.outputs} outputs, m = {self.samples:,} samples",
            "memory": f"{self.memory_bytes / _GIB:.3g} GiB beside the data",
            "time of the passes": f"{self.seconds_passes:.2g} s",
            "time of the solves": f"about {self.seconds_solve:.1g} s (order of magnitude)",
        }


def estimate(sim: SIM, teacher: nn.Module, loader: BatchLoader) -> SimEstimate:
    """Look at one batch and multiply.

    Args:
        sim: what would be trained.
        teacher: trained or not; its shapes are what counts.
        loader: of the states.

    Raises:
        UnsupportedModelError, ShapeError, NonFiniteError: as the training would.
    """
    inputs, _ = next(iter(loader))
    if sim.options.structure == "convolution":
        return _estimate_convolutions(sim, teacher, loader, inputs)
    recorder = state_recorder(teacher, inputs, names=sim.options.states)
    layout = recorder.layout
    n, features, q = layout.state_dim, layout.feature_dim, layout.output_dim
    statistics = SufficientStatistics(
        n, features - n, {PRE_ACTIVATIONS: n, OUTPUTS: q}, device=sim.device
    )

    def one_batch() -> None:
        batch = recorder.record(inputs)
        statistics.update(
            batch.states.to(sim.device),
            batch.inputs.to(sim.device),
            {
                PRE_ACTIVATIONS: batch.pre_activations.to(sim.device),
                OUTPUTS: batch.outputs.to(sim.device),
            },
        )

    samples = loader.samples if sim.options.samples is None else sim.options.samples
    limited, feedforward = sim.options.nonzeros is not None, sim.options.structure == "feedforward"
    passes = 2 if sim.options.regenerate_states else 1
    if feedforward:
        passes = 1 + len(layout.sizes)  # one for each layer but the first, the outputs included
    batches = min(samples, loader.samples) / len(inputs)
    product = _products_per_second(features, sim.device)
    operations: float = 2 * _FACTORISATION * features**3 + _STEPS * 2 * (n + q) * features**2
    memory = 8 * (_COPIES * features**2 + 6 * (n + q) * features)
    if limited:
        operations = sum(_ELIMINATION * rows * width**3 for rows, width in _layers(sim, layout))
        memory += 2 * max(BATCH_BYTES, 8 * features**2)
    return SimEstimate(
        states=n,
        features=features,
        outputs=q,
        samples=min(samples, loader.samples),
        memory_bytes=memory,
        seconds_passes=passes * batches * _seconds(one_batch),
        seconds_solve=operations / product,
    )


def _estimate_convolutions(
    sim: SIM, teacher: nn.Module, loader: BatchLoader, inputs: Tensor
) -> SimEstimate:
    recorder = ConvolutionRecorder(teacher, inputs)
    layout = recorder.layout
    samples = loader.samples if sim.options.samples is None else sim.options.samples
    data = DataPass([inputs], None, lambda _: None, Group.single())
    found = record_convolutions(recorder, data, device=sim.device)
    seconds = _seconds(lambda: record_convolutions(recorder, data, device=sim.device))
    widths = [each.feature_dim for each in found.statistics]
    rows = [*found.row_layout.sizes[::-1], layout.output_dim]
    sizes = list(zip(rows, widths, strict=True))
    operations: float = sum(_FACTORISATION * d**3 + _STEPS * 2 * r * d**2 for r, d in sizes)
    if sim.options.nonzeros is not None:
        operations = sum(_ELIMINATION * r * d**3 for r, d in sizes)
    # The second goes on layer by layer, each of which adds to its own sums alone.
    passes = 2 if sim.options.regenerate_states else 1
    return SimEstimate(
        states=layout.state_dim,
        features=max(widths),
        outputs=layout.output_dim,
        samples=min(samples, loader.samples),
        memory_bytes=8 * (sum(d * d for d in widths) + _COPIES * max(widths) ** 2),
        seconds_passes=passes * min(samples, loader.samples) / len(inputs) * seconds,
        seconds_solve=operations / _products_per_second(max(widths), sim.device),
    )


def _products_per_second(features: int, device: torch.device) -> float:
    """Operations a second of a matrix product of this size."""
    square = torch.eye(min(features, 1024), dtype=torch.float64, device=device)
    return 2 * len(square) ** 3 / _seconds(lambda: square @ square)


def _layers(sim: SIM, layout: StateLayout) -> Iterator[tuple[int, int]]:
    """Rows and features of what is eliminated together."""
    if sim.options.structure == "full":
        yield layout.state_dim + layout.output_dim, layout.feature_dim
        return
    before = (layout.input_dim, *layout.sizes[::-1])
    widths = accumulate(before) if sim.options.skip_connections else before
    yield from zip((*layout.sizes[::-1], layout.output_dim), widths, strict=True)


def _seconds(work: Callable[[], object]) -> float:
    """The shorter of two timings: the first one may pay for what is set up once."""
    timings = []
    for _ in range(2):
        started = time.perf_counter()
        work()
        timings.append(time.perf_counter() - started)
    return max(min(timings), 1e-9)
