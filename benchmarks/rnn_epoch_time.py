"""Epoch time of an implicit recurrent network beside torchidl 0.0.4's and torch.nn.LSTM.

The published argmax task: 10,000 sequences of ten numbers in [−1, 1], the place of the largest of
them as the class; 20 states, 20 hidden values (1,850 parameters; LSTM 2,050), κ 0.99, tolerance
3e-6 forward and backward (relative here, absolute there). The published training takes all
sequences as one batch; batches of 1,000 and 100 are measured too.

Three things are told, since torchidl's weights drift elsewhere in training (dividing all of A by
its norm fades its feedback out and makes its solves easy, while rows projected each by itself keep
theirs):

- an epoch of gradients at the same weights, newly drawn ones (feedback weak, about 7 iterations);
- the same at weights trained for some epochs (feedback as training wants it);
- an epoch of training, each on its own path.

All contestants run in one process, in turn on every batch. Processor time of the calling thread is
told beside wall time where one thread is used: a busy machine does not reach it.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from idl_cli.models.rnn import ImplicitRNN
from idl_cli.models.sequence_baselines import LSTM

SAMPLES, STEPS, CLASSES = 10_000, 10, 10
STATES, HIDDEN = 20, 20
KAPPA, TOL, MAX_ITER = 0.99, 3e-6, 300
LEARNING_RATE = 0.02
WARM_UP_BATCHES = 200  # of 250 sequences each: the weights called trained
REPEATS = {10_000: 7, 1_000: 4, 100: 2}
TRAINING_EPOCHS = 20


@dataclass
class Contestant:
    """A network and the seconds of its batches: forward, backward, optimiser."""

    name: str
    model: nn.Module
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def gradients(self, inputs: Tensor, targets: Tensor) -> None:
        """Take one timed gradient."""
        self.model.zero_grad()
        started, started_processor = time.perf_counter(), time.thread_time()
        _loss(self.model, inputs, targets).backward()  # type: ignore[no-untyped-call]
        self.processor.append(time.thread_time() - started_processor)
        self.wall.append(time.perf_counter() - started)

    def epoch(self, batches: int) -> dict[str, float]:
        """Return the seconds of an epoch by the median batch, and forget them."""
        found = {
            f"{self.name}_seconds": batches * statistics.median(self.wall),
            f"{self.name}_processor_seconds": batches * statistics.median(self.processor),
        }
        self.wall.clear()
        self.processor.clear()
        return found


def run(root: Path | None = None) -> dict[str, object]:
    """Measure and print.

    Args:
        root: not used; the data are drawn.

    Returns:
        For every setting the seconds of an epoch of each, the ratios and the iterations.
    """
    torch.manual_seed(0)
    inputs = 2 * torch.rand(SAMPLES, STEPS, 1) - 1
    targets = inputs.squeeze(2).argmax(dim=1)
    rows = []
    for trained in (False, True):
        for batch_size, repeats in REPEATS.items():
            row = _same_weights(inputs, targets, batch_size, repeats, trained=trained)
            rows.append(row)
            _print(f"{'trained' if trained else 'new'} weights, batch {batch_size}", row)
    training = _training(inputs, targets)
    _print("own training, batch 10000", training)
    return {
        "threads": torch.get_num_threads(),
        "parameters": {
            each.name: sum(p.numel() for p in each.model.parameters()) for each in _contestants()
        },
        "same_weights": rows,
        "training": training,
    }


def _contestants() -> list[Contestant]:
    """Return torchidl's network, this project's with the same weights, and an LSTM."""
    from torchidl.implicit_rnn_model import ImplicitRNN as Rival

    torch.manual_seed(0)
    rival = Rival(1, CLASSES, STATES, HIDDEN, kappa=KAPPA, mitr=MAX_ITER, grad_mitr=MAX_ITER)
    theirs = rival.recurrent.layer
    with torch.no_grad():
        # Drawn a little outside its ball; inside it both networks are the same function.
        theirs.A.mul_(min(1.0, KAPPA / float(theirs.A.abs().sum(dim=1).max())))
    settings = {"tol": TOL, "max_iter": MAX_ITER}
    mine = ImplicitRNN(1, CLASSES, STATES, HIDDEN, kappa=KAPPA, forward=settings, backward=settings)
    _copy(_rival_weights(rival), _weights(mine))
    mine.constrain_()
    return [Contestant("torchidl", rival), Contestant("idl", mine), Contestant("lstm", _lstm())]


def _lstm() -> LSTM:
    return LSTM(1, CLASSES, HIDDEN)


def _weights(model: ImplicitRNN) -> list[Tensor]:
    part = model.implicit_models()[0]
    return [part.A, part.B, part.C, cast(Tensor, part.D), *model.readout.parameters()]


def _rival_weights(rival: nn.Module) -> list[Tensor]:
    names = [f"recurrent.layer.{name}" for name in "ABCD"]
    return [rival.get_parameter(name) for name in (*names, "linear.weight", "linear.bias")]


@torch.no_grad()
def _copy(source: list[Tensor], target: list[Tensor]) -> None:
    for mine, theirs in zip(target, source, strict=True):
        mine.copy_(theirs)


def _same_weights(
    inputs: Tensor, targets: Tensor, batch_size: int, repeats: int, *, trained: bool
) -> dict[str, float]:
    contestants = _contestants()
    theirs, mine, _ = contestants
    model = cast(ImplicitRNN, mine.model)
    if trained:
        _train(model, inputs, targets)
        _copy(_weights(model), _rival_weights(theirs.model))
    _check_agreement(theirs.model, model, inputs[:1000])
    model.solve_statistics.reset()
    batches = SAMPLES // batch_size
    for _ in range(repeats):
        for index in range(min(batches, 20)):
            batch = slice(index * batch_size, (index + 1) * batch_size)
            for each in contestants:
                each.gradients(inputs[batch], targets[batch])
    return {"batch_size": batch_size, "trained": trained, **_row(contestants, batches)}


def _train(model: ImplicitRNN, inputs: Tensor, targets: Tensor) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    for index in range(WARM_UP_BATCHES):
        batch = slice(250 * (index % 40), 250 * (index % 40) + 250)
        optimizer.zero_grad()
        _loss(model, inputs[batch], targets[batch]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        model.constrain_()


@torch.no_grad()
def _check_agreement(theirs: nn.Module, mine: nn.Module, inputs: Tensor) -> None:
    """Both must be the same function, or their times compare nothing."""
    expected, found = theirs(inputs), mine(inputs)
    # Two tolerances of 3e-6, carried through ten steps.
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-3


def _training(inputs: Tensor, targets: Tensor) -> dict[str, float]:
    contestants = _contestants()
    model = cast(ImplicitRNN, contestants[1].model)
    optimizers = [torch.optim.Adam(each.model.parameters(), LEARNING_RATE) for each in contestants]
    for _ in range(TRAINING_EPOCHS):
        for each, optimizer in zip(contestants, optimizers, strict=True):
            started, started_processor = time.perf_counter(), time.thread_time()
            optimizer.zero_grad()
            _loss(each.model, inputs, targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if each.model is model:
                model.constrain_()
            each.processor.append(time.thread_time() - started_processor)
            each.wall.append(time.perf_counter() - started)
    return {"batch_size": SAMPLES, **_row(contestants, 1)}


def _row(contestants: list[Contestant], batches: int) -> dict[str, float]:
    row: dict[str, float] = {}
    for each in contestants:
        row |= each.epoch(batches)
    kind = "processor_seconds" if torch.get_num_threads() == 1 else "seconds"
    row["ratio"] = row[f"torchidl_{kind}"] / row[f"idl_{kind}"]
    row["times_lstm"] = row[f"idl_{kind}"] / row[f"lstm_{kind}"]
    summary = cast(ImplicitRNN, contestants[1].model).solve_statistics.summary()
    return row | {name: summary[name] for name in summary if "iterations" in name}


def _loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(model(inputs), targets)


def _print(what: str, row: dict[str, float]) -> None:
    print(
        f"{what:27}: torchidl {row['torchidl_seconds']:.3f} s   idl {row['idl_seconds']:.3f} s   "
        f"lstm {row['lstm_seconds']:.3f} s   ratio {row['ratio']:.2f}   "
        f"{row['times_lstm']:.2f} × lstm   iterations {row['iterations_mean']:.1f} + "
        f"{row['backward_iterations_mean']:.1f}",
        flush=True,
    )
