"""A training step of convolutional states beside torchdeq's and a network without equilibria.

The model of ``experiment=conv_cifar10`` (64 channels at 16 × 16 pixels, a read-out layer of 128;
136,202 parameters) on batches of 128 made images of CIFAR-10's size, from new weights and from
weights after 30 steps: loss, gradient, Adam, projection. Contestants, in turn in one process:

- idl with the exact gradient at 1e-3, and as in the preset (1e-2, Jacobian-free);
- torchdeq 0.1.0 on the same cell with the same injection and read-out, Picard at 1e-3 with the
  exact gradient;
- the explicit network of the same layers, the kernel of A applied once: equal parameters.

Told beside: images a second, seconds for the 50,000 images of an epoch, and the share of idl's time
that its products with A (and two for the gradient of the kernel) would take alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.equilibria_cases import torchdeq_solver
from idl_cli.equilibrium.operators import maps_of, rows_of
from idl_cli.models.convolutional.implicit_conv import ImplicitConv

_BATCH, _IMAGES = 128, 50_000
_TAKEN = 7


def _model(tol: float, method: str, kind: type[ImplicitConv] = ImplicitConv) -> ImplicitConv:
    torch.manual_seed(0)
    solving = {"forward": {"tol": tol}, "backward": {"tol": tol, "method": method}}
    return kind((3, 32, 32), 10, channels=[64], readout_channels=128, **solving)  # type: ignore[arg-type]


class _Explicit(ImplicitConv):
    """The same layers, the kernel of A applied once."""

    def equilibrium(self, inputs: Tensor, *, start: Tensor | None = None) -> Tensor:
        injected = torch.relu(self.injected(self.images(inputs)))
        return torch.relu(self.operator().apply(injected, torch.zeros_like(injected)))


class _Torchdeq(ImplicitConv):
    """The same model with its equilibria solved by torchdeq."""

    def equilibrium(self, inputs: Tensor, *, start: Tensor | None = None) -> Tensor:
        deq = torchdeq_solver("fixed_point_iter", 1e-3)
        offset = maps_of(self.injected(self.images(inputs)), (16, 16, 64))
        (kernel,) = self.operator().factors
        found, _ = deq(
            lambda x: torch.relu(functional.conv2d(x, kernel, padding=1) + offset),
            torch.zeros_like(offset),
        )
        return rows_of(found[-1])


def run(root: Path | None = None) -> dict[str, object]:
    """Measure and print.

    Args:
        root: not needed.

    Returns:
        The figures of each contestant, of new and of trained weights.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(_BATCH, 3, 32, 32, generator=generator)
    # Classes that can be learnt, so that trained weights are not those of noise.
    labels = torch.randint(10, (_BATCH,), generator=generator)
    images += torch.randn(10, 3, 32, 32, generator=generator)[labels]
    contestants = {
        "idl, exact": _model(1e-3, "auto"),
        "idl, preset": _model(1e-2, "jacobian_free"),
        "torchdeq": _model(1e-3, "auto", _Torchdeq),
        "explicit": _model(1e-3, "auto", _Explicit),
    }
    optimizers = {
        name: torch.optim.Adam(model.parameters(), lr=1e-3) for name, model in contestants.items()
    }

    def step(name: str) -> None:
        model, optimizer = contestants[name], optimizers[name]
        optimizer.zero_grad()
        functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        model.constrain_()

    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    rows: dict[str, dict[str, object]] = {}
    for trained, steps in (("new", 2), ("trained", 30)):
        for name in contestants:
            for _ in range(steps):
                step(name)
        taken: dict[str, list[float]] = {name: [] for name in contestants}
        for name in list(contestants) * _TAKEN:
            started = clock()
            step(name)
            taken[name].append(clock() - started)
        for name, model in contestants.items():
            seconds = statistics.median(taken[name])
            row = rows[f"{name}, {trained}"] = {
                "seconds": seconds,
                "images_per_second": _BATCH / seconds,
                "epoch_seconds": seconds * _IMAGES / _BATCH,
            }
            if name.startswith("idl"):
                row["products_share"] = _products(model, images, clock) / seconds
            figures = "  ".join(f"{key} {value:.3g}" for key, value in row.items())
            print(f"{name:12} {trained:8} {figures}", flush=True)
    return {"threads": torch.get_num_threads(), "batch": _BATCH, "rows": rows}


def _products(model: ImplicitConv, images: Tensor, clock: Callable[[], float]) -> float:
    """Seconds that the products of one step would take alone."""
    model.solve_statistics.reset()
    model(images).sum().backward()
    counts = model.solve_statistics.summary()
    with torch.no_grad():
        operator, x = model.operator(), torch.rand(_BATCH, model.hidden_dim)
        taken = []
        for _ in range(_TAKEN):
            started = clock()
            operator.apply(x, x)
            taken.append(clock() - started)
    count = counts["iterations_mean"] + counts.get("backward_iterations_mean", 0.0) + 2
    return statistics.median(taken) * count
