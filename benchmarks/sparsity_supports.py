"""The supports of ``benchmarks.sparsity``: fits from one recording, and what their files weigh."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from idl_cli.data.dataset import Dataset
from idl_cli.data.loader import BatchLoader
from idl_cli.run import RunDirectory
from idl_cli.sim.sim import SIM
from idl_cli.sim.solvers import BackwardEliminationSolver

REPEATS = 20
BATCH = 1000


def fit_supports(
    teacher: nn.Module, loader: BatchLoader, samples: int, shares: Sequence[float]
) -> Iterator[tuple[nn.Module, float]]:
    """A feed-forward model a share of the teacher's parameters, and the processor seconds it took.

    Args:
        teacher: whose states are matched.
        loader: of its inputs, in order.
        samples: how many of them.
        shares: the largest first: its elimination serves the others, and its seconds are those of
            a run of its own, recording included.
    """
    started, starts = time.process_time(), None
    sim = SIM(nonzeros=shares[0], structure="feedforward", samples=samples)
    recording = sim.record(model=teacher, dataloader=loader)
    for share in shares:
        found = sim.fit(
            recording,
            dataloader=loader,
            solver=BackwardEliminationSolver(),
            options=replace(sim.options, nonzeros=share),
            starts=starts,
        )
        starts = found.starts
        yield found.model, time.process_time() - started
        started = time.process_time()


def worth(model: nn.Module, teacher: nn.Module, dataset: Dataset) -> dict[str, float]:
    """Bytes of the model's file, and microseconds a sample in batches of a thousand, dense."""
    inputs = dataset.preprocessing(dataset.test.inputs[:BATCH])
    figures: dict[str, float] = {}
    for prefix, network in (("", model), ("teacher_", teacher)):
        with tempfile.TemporaryDirectory() as folder, RunDirectory(folder, command="sim") as run:
            run.save_model(
                network,
                preprocessing=None,
                task=None,
                name="implicit" if network is model else "mlp",
                group="model" if network is model else "teacher",
            )
            figures[f"{prefix}bytes"] = (Path(folder) / "model.safetensors").stat().st_size
        seconds = []
        with torch.no_grad():
            for _ in range(REPEATS):
                started = time.perf_counter()
                network(inputs)
                seconds.append(time.perf_counter() - started)
        figures[f"{prefix}microseconds"] = 1e6 * statistics.median(seconds) / BATCH
    return figures
