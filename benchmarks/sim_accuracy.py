"""Accuracy, sparsity, memory and time of state-driven training on Fashion-MNIST.

Teacher 784-64-32-16-10 (ReLU, with biases), three seeds. λ is chosen on 6,000 validation images
that neither teacher nor states have seen; "all samples" then repeats the fit at that λ on all
60,000 training images. Every figure of accuracy is of the 10,000 test images.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import torch
from torch import nn

from idl_cli.data.dataset import Dataset
from idl_cli.data.images.mnist import fashion_mnist
from idl_cli.data.loader import BatchLoader
from idl_cli.data.split import Split
from idl_cli.evaluation import evaluate
from idl_cli.models.explicit import MLP
from idl_cli.sim.fit.fits import Fit
from idl_cli.sim.fit.fitting import with_penalties
from idl_cli.sim.fit.selection import Candidate, select_penalty
from idl_cli.sim.sim import SIM
from idl_cli.sim.solvers import ActiveSetSolver
from idl_cli.sim.states.convolution_recording import AnyRecording

SEEDS = (0, 1, 2)
FEW = 2000
HIDDEN_DIMS = (64, 32, 16)
GRID = (3e-4, 2e-4, 1.5e-4, 1.2e-4, 1e-4, 5e-5, 2e-5, 1e-5, 3e-6, 1e-6)
SPARSE = 0.25
VANISHING = 1e-9
TARGETS = {
    "points lost, 2,000 samples": 0.6,
    "points lost, all samples": 0.2,
    "points lost, at most 25 % non-zero": 1.0,
    "disagreement as lambda vanishes, per cent": 0.1,
    "memory ratio": 1.3,
}
_BATCH = 2000
_PROCESSES = 3


def run(root: Path | None = None) -> dict[str, object]:
    """Measure and print.

    Args:
        root: folder of Fashion-MNIST's four IDX files; None downloads them.

    Returns:
        A row a seed, the worst figure of each target beside its limit, memory and time.
    """
    rows = [_one_seed(seed, root) for seed in SEEDS]
    cost = {str(samples): _cost_in_process(samples, root) for samples in (FEW, 60_000)}
    few, many = cost[str(FEW)], cost["60000"]
    worst = {
        "points lost, 2,000 samples": max(_number(row, "few", "points_lost") for row in rows),
        "points lost, all samples": max(_number(row, "all", "points_lost") for row in rows),
        "points lost, at most 25 % non-zero": max(
            _number(row, "all_sparse", "points_lost") for row in rows
        ),
        "disagreement as lambda vanishes, per cent": max(
            100 * (1 - _number(row, "vanishing", "agreement")) for row in rows
        ),
        "memory ratio": many["memory_bytes"] / few["memory_bytes"],
    }
    for name, limit in TARGETS.items():
        print(f"{name:42} {worst[name]:7.3f} (target <= {limit})", flush=True)
    print(
        f"seconds without the passes: {few['seconds_solve']:.1f} ({FEW} samples), "
        f"{many['seconds_solve']:.1f} (60,000); passes {many['seconds_passes']:.1f}",
        flush=True,
    )
    return {"rows": rows, "worst": worst, "targets": TARGETS, "cost": cost}


# -- accuracy --------------------------------------------------------------------------------------


def _one_seed(seed: int, root: Path | None) -> dict[str, object]:
    dataset = fashion_mnist(root=None if root is None else str(root), seed=seed)
    teacher = train_teacher(dataset, seed)
    accuracy = evaluate(teacher, loader_of(dataset.test, dataset), dataset.task)["accuracy"]
    row: dict[str, object] = {"seed": seed, "teacher_accuracy": accuracy}
    print(f"seed {seed}: teacher {accuracy:.4f}", flush=True)
    everything = joined(dataset)
    for name, samples in (("few", FEW), ("all", None)):
        sim = SIM(samples=samples)
        loader = loader_of(dataset.train, dataset)
        recording = sim.record(model=teacher, dataloader=loader)
        best, candidates = _choose(sim, recording, loader, dataset)
        sparse = max(
            (each for each in candidates if each.nonzero_fraction <= SPARSE),
            key=lambda each: each.score,
        )
        for label, chosen in ((name, best), (f"{name}_sparse", sparse)):
            found = chosen.fit
            if samples is None:
                loader = loader_of(everything, dataset)
                recording = sim.record(model=teacher, dataloader=loader)
                found = _fit(sim, recording, loader, chosen.lambda_z)
            row[label] = _measured(sim, found, recording, dataset, chosen.lambda_z)
            print(f"  {label}: {row[label]}", flush=True)
    loader = loader_of(everything, dataset)
    sim = SIM()
    recording = sim.record(model=teacher, dataloader=loader)
    found = _fit(sim, recording, loader, VANISHING)
    row["vanishing"] = _measured(sim, found, recording, dataset, VANISHING)
    print(f"  vanishing: {row['vanishing']}", flush=True)
    return row


def _choose(
    sim: SIM, recording: AnyRecording, loader: BatchLoader, dataset: Dataset
) -> tuple[Candidate, tuple[Candidate, ...]]:
    assert dataset.validation is not None
    validation = loader_of(dataset.validation, dataset)
    return select_penalty(
        GRID,
        lambda penalty: _fit(sim, recording, loader, penalty),
        lambda found: evaluate(found.model, validation, dataset.task)["accuracy"],
    )


def _fit(sim: SIM, recording: AnyRecording, loader: BatchLoader, penalty: float) -> Fit:
    options = with_penalties(sim.options, penalty)
    return sim.fit(recording, dataloader=loader, solver=ActiveSetSolver(), options=options)


def _measured(
    sim: SIM, found: Fit, recording: AnyRecording, dataset: Dataset, penalty: float
) -> dict[str, object]:
    sim.keep(found, recording, ActiveSetSolver())
    figures = sim.evaluate(loader_of(dataset.test, dataset), task=dataset.task)
    report = sim.report
    return {
        "lambda": penalty,
        "accuracy": figures["accuracy"],
        "points_lost": round(100 * (figures["teacher_accuracy"] - figures["accuracy"]), 3),
        "agreement": figures["agreement"],
        "nonzero_fraction": report["nonzero_fraction"],
        "inf_norm_A": report["inf_norm_A"],
        "status": [found.ab.solution.status, found.cd.solution.status],
        "seconds": {key: report[key] for key in report if key.startswith("seconds")},
    }


def train_teacher(dataset: Dataset, seed: int, epochs: int = 10) -> MLP:
    """Adam under a one-cycle schedule, 10 epochs."""
    torch.manual_seed(seed)
    teacher = MLP(dataset.task.input_shape, dataset.task.output_dim, hidden_dims=HIDDEN_DIMS)
    loader = BatchLoader(
        dataset.train, 128, preprocessing=dataset.preprocessing, shuffle=True, seed=seed
    )
    optimizer = torch.optim.Adam(teacher.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, epochs * len(loader))
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        for inputs, targets in loader:
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(teacher(inputs), targets))
            optimizer.step()
            schedule.step()
    return teacher


def joined(dataset: Dataset) -> Split:
    """All samples that are not for the test."""
    assert dataset.validation is not None
    parts = (dataset.train, dataset.validation)
    return Split(
        torch.cat([part.inputs for part in parts]), torch.cat([part.targets for part in parts])
    )


def loader_of(part: Split, dataset: Dataset) -> BatchLoader:
    """Batches of a part in its order."""
    return BatchLoader(part, _BATCH, preprocessing=dataset.preprocessing, shuffle=False, seed=0)


# -- memory and time -------------------------------------------------------------------------------


def _cost_in_process(samples: int, root: Path | None) -> dict[str, float]:
    """Peak memory can only be read of a whole process, so each size gets some of its own.

    Of three the least counts: how much freed memory malloc holds back is a matter of luck.
    """
    command = [sys.executable, "-m", "benchmarks.sim_accuracy", str(samples), str(root or "")]
    command.append(str(torch.get_num_threads()))
    runs: list[dict[str, float]] = []
    for _ in range(_PROCESSES):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    figures = min(runs, key=lambda run: run["memory_bytes"])
    print(f"{samples} samples: {figures}", flush=True)
    return figures


def _cost(samples: int, root: str, threads: int) -> dict[str, float]:
    torch.set_num_threads(threads)
    dataset = fashion_mnist(root=root or None)
    everything = joined(dataset)
    teacher = train_teacher(dataset, 0)
    sim = SIM(samples=samples)
    loader = loader_of(everything, dataset)
    with _PeakMemory() as memory:
        started = time.perf_counter()
        sim.train(model=teacher, dataloader=loader, solver=ActiveSetSolver())
        seconds = time.perf_counter() - started
    report = sim.report
    passes = float(str(report["seconds_states"])) + float(str(report["seconds_equilibria"]))
    return {
        "memory_bytes": memory.above_start,
        "seconds": seconds,
        "seconds_passes": passes,
        "seconds_solve": seconds - passes,
    }


class _PeakMemory:
    """The most resident memory above that at the start, looked at every few milliseconds.

    The process's own high-water mark would not do: unpacking the data set sets it.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._start = self._peak = 0

    @property
    def above_start(self) -> int:
        """Bytes."""
        return self._peak - self._start

    def __enter__(self) -> _PeakMemory:
        gc.collect()
        self._start = self._peak = self._process.memory_info().rss
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self._peak = max(self._peak, self._process.memory_info().rss)


def _number(row: Mapping[str, object], label: str, name: str) -> float:
    section = row[label]
    assert isinstance(section, Mapping)
    return float(section[name])


if __name__ == "__main__":
    print(json.dumps(_cost(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
