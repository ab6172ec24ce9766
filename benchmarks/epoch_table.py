"""Epochs on MNIST and Fashion-MNIST beside an MLP of as many parameters and torchidl 0.0.4.

100 and 500 states, batches of 64 and 512, κ 0.95, Adam at 1e-3, the first 6,000 images of the
training part, accuracies on all of the test part. All train in one process on the same batches, in
turn on every batch. The time of an epoch is the median step times their number, over all epochs
from the third on, in processor time where one thread is used; the projection after each step is
part of it. The MLP has one hidden layer.

torchidl's tolerance, 1e-5, is absolute, and buys gradients that are right to about three digits.
Ours is relative: once 1e-5 as well, and once 1e-3, as presets have it, which is about as exact as
torchidl. What each buys stands in the table: the error of ∂loss/∂B after training.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.epoch_time import (
    KAPPA,
    LEARNING_RATE,
    TOL,
    Contestant,
    gradient_error,
    idx_part,
)
from idl_cli.models.implicit import ImplicitModel

SAMPLES = 6000
LOOSE = 1e-3
EPOCHS = 4
SETTLED = 2  # epochs before the first that counts
STATES = (100, 500)
BATCHES = (64, 512)
DATASETS = ("fashion-mnist", "mnist")
_INPUTS, _CLASSES = 784, 10


def run(root: Path | None = None) -> dict[str, object]:
    """Measure and print.

    Args:
        root: a folder with the four IDX files of Fashion-MNIST; MNIST's are in the folder ``mnist``
            beside it, or are left out.

    Returns:
        Seconds of an epoch, accuracies and errors of gradients, for each data set, n and batch.

    Raises:
        FileNotFoundError: the files are not there.
    """
    folder = root or Path("data/fashion-mnist")
    rows = []
    for name in DATASETS:
        place = folder if name == DATASETS[0] else folder.parent / name
        if name != DATASETS[0] and not place.exists():
            print(f"{place} is missing: {name} is left out")
            continue
        train, test = _load(place, "train"), _load(place, "t10k")
        for states in STATES:
            for batch in BATCHES:
                row = {"dataset": name, "states": states, "batch": batch}
                row |= _measure(train, test, states, batch)
                rows.append(row)
                print(_line(row), flush=True)
    return {"threads": torch.get_num_threads(), "samples": SAMPLES, "rows": rows}


def _load(place: Path, part: str) -> tuple[Tensor, Tensor]:
    images, labels = idx_part(place, part)
    return images.flatten(1).float().div_(255).sub_(0.3).div_(0.35), labels.long()


def _contestants(states: int) -> list[Contestant]:
    import torchidl

    models = []
    for tol in (TOL, LOOSE):
        torch.manual_seed(0)
        models.append(
            ImplicitModel(
                _INPUTS, _CLASSES, states, kappa=KAPPA, forward={"tol": tol}, backward={"tol": tol}
            )
        )
    exact, loose = models
    parameters = sum(each.numel() for each in exact.parameters())
    hidden = (parameters - _CLASSES) // (_INPUTS + _CLASSES + 1)
    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(_INPUTS, hidden), nn.ReLU(), nn.Linear(hidden, _CLASSES))
    torch.manual_seed(0)
    rival = torchidl.ImplicitModel(
        _INPUTS, _CLASSES, states, bias=True, kappa=KAPPA, tol=TOL, grad_tol=TOL
    )
    return [
        Contestant(name, each, torch.optim.Adam(each.parameters(), lr=LEARNING_RATE, fused=True), c)
        for name, each, c in (
            ("idl", exact, exact.constrain_),
            ("idl_loose", loose, loose.constrain_),
            ("mlp", mlp, None),
            ("torchidl", rival, None),
        )
    ]


def _measure(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], states: int, batch: int
) -> dict[str, float]:
    inputs, targets = train[0][:SAMPLES], train[1][:SAMPLES]
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    contestants = _contestants(states)
    for epoch in range(EPOCHS):
        if epoch == SETTLED:
            for each in contestants:
                each.seconds.clear()
        order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(epoch))
        for samples in torch.split(order, batch):
            for each in contestants:
                each.step(inputs[samples], targets[samples], clock)
    steps = -(-SAMPLES // batch)
    row = {}
    for each in contestants:
        row[f"{each.name}_seconds"] = statistics.median(each.seconds) * steps
        with torch.no_grad():
            hits = each.model.eval()(test[0]).argmax(dim=1) == test[1]
        row[f"{each.name}_accuracy"] = float(hits.double().mean())
        if each.name != "mlp":
            row[f"{each.name}_gradient_error"] = gradient_error(each, *train)
    for each in contestants[:2]:
        row[f"{each.name}_to_mlp"] = row[f"{each.name}_seconds"] / row["mlp_seconds"]
        row[f"torchidl_to_{each.name}"] = row["torchidl_seconds"] / row[f"{each.name}_seconds"]
        assert isinstance(each.model, ImplicitModel)
        figures = each.model.solve_statistics.summary()
        row |= {f"{each.name}_{key}": figure for key, figure in figures.items()}
    return row


def _line(row: dict[str, object]) -> str:
    figures = "  ".join(
        f"{name} {row[f'{name}_seconds']:.3f} s ({row[f'{name}_accuracy']:.4f})"
        for name in ("idl", "idl_loose", "mlp", "torchidl")
    )
    ratios = "  ".join(
        f"{name}: {row[f'{name}_to_mlp']:.2f} x the MLP's time, "
        f"{row[f'torchidl_to_{name}']:.2f} x as fast as torchidl"
        for name in ("idl", "idl_loose")
    )
    errors = ", ".join(
        f"{row[f'{name}_gradient_error']:.0e}" for name in ("idl", "idl_loose", "torchidl")
    )
    return (
        f"{row['dataset']:13} n {row['states']:3} batch {row['batch']:3}  {figures}  {ratios}  "
        f"errors of gradients {errors}"
    )
