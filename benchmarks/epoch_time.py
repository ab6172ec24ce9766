"""Epoch time of an implicit model beside torchidl 0.0.4's, on Fashion-MNIST.

Both models train in one process on the same batches, in turn on every batch, so that a busy moment
of the machine falls on both: 784 inputs, 100 states, biases, batches of 100, κ 0.95, tolerance
1e-5 forward and backward (relative here, absolute there), the same optimiser. ``torchidl`` divides
all of A by its norm where that passes κ; here every row is projected after each step, and the
projection is part of the time. Gathering a batch is not.

Two times an epoch are told: the sum over its steps, and the median step times their number, which a
busy moment does not reach. Beside them stands what the tolerance bought: the error of ∂loss/∂B on
one batch, against the same gradient solved in float64 to 1e-13.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from idl_cli.data.files.idx import read_idx
from idl_cli.models.implicit import ImplicitModel

EPOCHS = 4
HIDDEN_DIM = 100
BATCH_SIZE = 100
KAPPA = 0.95
TOL = 1e-5
LEARNING_RATE = 1e-3
REFERENCE = {"tol": 1e-13, "max_iter": 5000}


@dataclass
class Contestant:
    """A model in training and the seconds of its steps."""

    name: str
    model: nn.Module
    optimizer: torch.optim.Optimizer
    constrain: Callable[[], None] | None
    seconds: list[float] = field(default_factory=list)

    def step(
        self, inputs: Tensor, targets: Tensor, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Take one training step, timed by this clock."""
        started = clock()
        self.optimizer.zero_grad()
        nn.functional.cross_entropy(self.model(inputs), targets).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        if self.constrain is not None:
            self.constrain()
        self.seconds.append(clock() - started)


def run(root: Path | None = None) -> dict[str, object]:
    """Measure and print.

    Args:
        root: a folder with the IDX files of Fashion-MNIST's training part, compressed or not.

    Returns:
        Seconds of each epoch for both, their ratio, ‖A‖∞, iterations and gradient errors.

    Raises:
        FileNotFoundError: the files are not there.
    """
    inputs, targets = _load(root)
    theirs, mine = _contestants(inputs.shape[1])
    rows = []
    for epoch in range(1, EPOCHS + 1):
        order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(epoch))
        for batch in torch.split(order, BATCH_SIZE):
            for contestant in (theirs, mine):
                contestant.step(inputs[batch], targets[batch])
        row = _row(epoch, theirs, mine)
        rows.append(row)
        print(
            f"epoch {epoch}: torchidl {row['torchidl_median_seconds']:.3f} s "
            f"(sum {row['torchidl_seconds']:.3f}, ‖A‖∞ {row['torchidl_inf_norm_A']:.2f})   "
            f"idl {row['idl_median_seconds']:.3f} s "
            f"(sum {row['idl_seconds']:.3f}, ‖A‖∞ {row['idl_inf_norm_A']:.3f})   "
            f"ratio {row['ratio']:.2f}",
            flush=True,
        )
    errors = {each.name: gradient_error(each, inputs, targets) for each in (theirs, mine)}
    print(f"error of ∂loss/∂B: torchidl {errors['torchidl']:.1e}, idl {errors['idl']:.1e}")
    return {
        "threads": torch.get_num_threads(),
        "batches": len(inputs) // BATCH_SIZE,
        "epochs": rows,
        "first_epoch_ratio": rows[0]["ratio"],
        "ratio_past_kappa": statistics.median(row["ratio"] for row in rows[1:]),
        "relative_error_of_gradient": errors,
    }


def _load(root: Path | None) -> tuple[Tensor, Tensor]:
    images, labels = idx_part(root or Path("data/fashion-mnist"), "train")
    pixels = images.flatten(1).float().div_(255)
    return (pixels - pixels.mean()) / pixels.std(), labels.long()


def idx_part(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Images (m, height, width) and labels (m,) of ``train`` or ``t10k``, 8-bit.

    Raises:
        FileNotFoundError: a file is not there, compressed or not.
    """
    arrays = []
    for name, ndim in ((f"{part}-images-idx3-ubyte", 3), (f"{part}-labels-idx1-ubyte", 1)):
        paths = [folder / name, folder / f"{name}.gz"]
        found = next((path for path in paths if path.exists()), None)
        if found is None:
            raise FileNotFoundError(
                f"{paths[0]} (or .gz) is missing: name the folder with Fashion-MNIST's IDX files "
                "by --root"
            )
        arrays.append(torch.from_numpy(read_idx(found, ndim=ndim)))
    images, labels = arrays
    return images, labels


def _contestants(input_dim: int) -> tuple[Contestant, Contestant]:
    import torchidl

    torch.manual_seed(0)
    rival = torchidl.ImplicitModel(
        input_dim, 10, HIDDEN_DIM, bias=True, kappa=KAPPA, tol=TOL, grad_tol=TOL
    )
    torch.manual_seed(0)
    settings = {"tol": TOL}
    model = ImplicitModel(
        input_dim, 10, HIDDEN_DIM, kappa=KAPPA, forward=settings, backward=settings
    )
    # Fused, so that the step both share hides as little as possible of the difference.
    optimizers = [
        torch.optim.Adam(each.parameters(), lr=LEARNING_RATE, fused=True) for each in (rival, model)
    ]
    return (
        Contestant("torchidl", rival, optimizers[0], None),
        Contestant("idl", model, optimizers[1], model.constrain_),
    )


def _row(epoch: int, theirs: Contestant, mine: Contestant) -> dict[str, float]:
    assert isinstance(mine.model, ImplicitModel)
    row: dict[str, float] = {"epoch": epoch}
    for each in (theirs, mine):
        row[f"{each.name}_seconds"] = sum(each.seconds)
        row[f"{each.name}_median_seconds"] = statistics.median(each.seconds) * len(each.seconds)
        each.seconds.clear()
    row["ratio"] = row["torchidl_median_seconds"] / row["idl_median_seconds"]
    row["ratio_of_sums"] = row["torchidl_seconds"] / row["idl_seconds"]
    row["torchidl_inf_norm_A"] = float(_stored_A(theirs).abs().sum(dim=1).max())
    row["idl_inf_norm_A"] = mine.model.inf_norm_A()
    row |= {f"idl_{name}": value for name, value in mine.model.solve_statistics.summary().items()}
    mine.model.solve_statistics.reset()
    return row


def _stored_A(contestant: Contestant) -> Tensor:
    return contestant.model.get_parameter("A").detach()


def gradient_error(contestant: Contestant, inputs: Tensor, targets: Tensor) -> float:
    """Return ‖∂B − exact‖∞ / ‖exact‖∞ for the loss of the first ``BATCH_SIZE`` samples."""
    u, y = inputs[:BATCH_SIZE], targets[:BATCH_SIZE]
    contestant.model.zero_grad()
    nn.functional.cross_entropy(contestant.model(u), y).backward()  # type: ignore[no-untyped-call]
    gradient = contestant.model.get_parameter("B").grad
    assert gradient is not None, "every weight has a gradient"
    exact = _reference(contestant)
    nn.functional.cross_entropy(exact(u.double()), y).backward()  # type: ignore[no-untyped-call]
    reference = exact.B.grad
    assert reference is not None, "every weight has a gradient"
    difference = gradient[:, : reference.shape[1]] - reference
    return float(difference.abs().max() / reference.abs().max())


def _reference(contestant: Contestant) -> ImplicitModel:
    """Return the same model in float64, solved as far as float64 goes."""
    weights = {name: value.detach().double() for name, value in contestant.model.named_parameters()}
    if contestant.name == "torchidl":
        # Its biases are the last columns of B and D, and A is divided by its norm.
        norm = float(weights["A"].abs().sum(dim=1).max())
        weights["A"] *= min(1.0, KAPPA / norm)
        weights["state_bias"], weights["output_bias"] = weights["B"][:, -1], weights["D"][:, -1]
        weights["B"], weights["D"] = weights["B"][:, :-1], weights["D"][:, :-1]
    return ImplicitModel.from_weights(
        weights["A"],
        weights["B"],
        weights["C"],
        weights["D"],
        state_bias=weights["state_bias"],
        output_bias=weights["output_bias"],
        kappa=KAPPA,
        forward=REFERENCE,
        backward=REFERENCE,
    )
