"""Sparse models of one size beside each other: supports from states, and five ways to prune.

Teachers (ReLU, with biases) of three seeds: 784-64-32-16-10 on Fashion-MNIST and MNIST,
3072-512-256-10 on CIFAR-10, whose training images are shifted by a pixel and mirrored. Shares of
zeros refer to the teacher's weights and biases. Without labels: supports from all training images
and, but for CIFAR-10, from 2,000; the teacher pruned by magnitude, Wanda, SparseGPT and ALPS, the
last three reconstructed on all training images. With labels: each of these trained on for 5 epochs
at its teacher's peak rate, zeros kept, and the teacher pruned gradually in those epochs. Every
figure is of the whole test part.

Each cell is kept in ``benchmarks/results/sparsity`` as soon as it is measured, and not measured
again while its file is there. MNIST and CIFAR-10 are taken from the folders that MNIST_ROOT and
CIFAR10_ROOT name, and left out where these are not set; ``CELLS=fashion_mnist/0`` measures those
cells alone whose names begin so.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import nn

from benchmarks.sim_accuracy import loader_of
from benchmarks.sparsity_supports import fit_supports, worth
from idl_cli.assembly.compute import Compute
from idl_cli.assembly.fine_tuning import FineTuning, fine_tune
from idl_cli.assembly.teacher_training import OneCycle, teacher_trainer
from idl_cli.commands.sim.pruning_baseline import GRADUAL, PRUNERS, pruned, pruned_gradually
from idl_cli.data.dataset import Dataset
from idl_cli.data.images.cifar import cifar10
from idl_cli.data.images.mnist import fashion_mnist, mnist
from idl_cli.evaluation import evaluate
from idl_cli.models.explicit import MLP
from idl_cli.models.parameter_count import parameter_count
from idl_cli.models.pruning import count_nonzeros
from idl_cli.run.files import json_bytes, write_atomic
from idl_cli.run.state import read_tensors, write_tensors
from idl_cli.sim.states.layout import InputBatches

SEEDS = (0, 1, 2)
ZEROS = (0.98, 0.95, 0.9, 0.8)
FEW = 2000
TEACHER = FineTuning(epochs=10, batch_size=128, lr=3e-3, seed=0)
TUNING_EPOCHS = 5
CELLS = Path(__file__).parent / "results" / "sparsity"
_CPU = Compute(device=torch.device("cpu"), dtype=torch.float32)

Cell = dict[str, float | int]


@dataclass(frozen=True)
class Setting:
    """A data set, a network for it and how that is trained."""

    name: str
    load: Callable[[], Dataset]
    hidden_dims: tuple[int, ...]
    zeros: tuple[float, ...]
    training: FineTuning = TEACHER
    few: bool = True  # whether few samples are measured too

    @property
    def tuning(self) -> FineTuning:
        """At the teacher's peak rate."""
        return replace(self.training, epochs=TUNING_EPOCHS)


@dataclass(frozen=True)
class Bench:
    """One teacher and what can be made of it; everything is made when it is first needed."""

    setting: Setting
    seed: int

    @cached_property
    def dataset(self) -> Dataset:
        """Nothing is held back for validation: nothing is chosen."""
        return self.setting.load()

    @cached_property
    def teacher(self) -> nn.Module:
        """Trained once, and kept beside the cells."""
        torch.manual_seed(self.seed)
        task, path = self.dataset.task, self.folder / "teacher.safetensors"
        network = MLP(task.input_shape, task.output_dim, hidden_dims=self.setting.hidden_dims)
        if path.is_file():
            network.load_state_dict(read_tensors(path)[0])
        else:
            training = self.setting.training
            cycle = OneCycle(training.epochs, training.batch_size, training.lr, self.seed)
            teacher_trainer(network, self.dataset, _CPU, cycle).fit()
            write_tensors(path, network.state_dict())
        return network.eval()

    @property
    def folder(self) -> Path:
        """Where this teacher's cells are kept."""
        return CELLS / self.setting.name / str(self.seed)

    def accuracy(self, model: nn.Module) -> float:
        """On the test part."""
        test = loader_of(self.dataset.test, self.dataset)
        return evaluate(model, test, self.dataset.task)["accuracy"]

    def measured(self) -> Mapping[str, Cell]:
        """All cells of this teacher, from their files where they are there."""
        cells = {
            "teacher": self._cell("teacher", lambda: {"accuracy": self.accuracy(self.teacher)})
        }
        cells |= self._supports(len(self.dataset.train))
        for method in (GRADUAL, *list(PRUNERS)[::-1]):
            for zeros in self.setting.zeros:
                name = f"{method} {zeros:g}"
                cells[name] = self._cell(name, partial(self._pruned, method, zeros))
        return cells | (self._supports(FEW) if self.setting.few else {})

    def _cell(self, name: str, measure: Callable[[], Cell]) -> Cell:
        path = self.folder / f"{name}.json"
        if not path.is_file():
            write_atomic(path, json_bytes(measure()))
        cell: Cell = json.loads(path.read_text())
        print(f"{self.setting.name} seed {self.seed} {name}: {cell}", flush=True)
        return cell

    def _pruned(self, method: str, zeros: float) -> Cell:
        count = round((1 - zeros) * parameter_count(self.teacher))
        if method == GRADUAL:
            started = time.process_time()
            model = pruned_gradually(self.teacher, count, self.dataset, self.setting.tuning, _CPU)
            return {
                "tuned_accuracy": self.accuracy(model),
                "nonzeros": count_nonzeros(model),
                "tuning_seconds": time.process_time() - started,
            }
        inputs = InputBatches(loader_of(self.dataset.train, self.dataset), None)
        started = time.process_time()
        model = pruned(self.teacher, method, count, inputs)
        return self._with_tuning(model, time.process_time() - started)

    def _with_tuning(self, model: nn.Module, seconds: float) -> Cell:
        cell: Cell = {"accuracy": self.accuracy(model), "seconds": seconds}
        started = time.process_time()
        fine_tune(model, self.dataset, self.setting.tuning, _CPU)
        return {
            **cell,
            "tuned_accuracy": self.accuracy(model),
            "nonzeros": count_nonzeros(model),
            "tuning_seconds": time.process_time() - started,
        }

    def _supports(self, samples: int) -> dict[str, Cell]:
        """One elimination serves all shares: they are measured together where one is missing."""
        name = "supports" if samples > FEW else f"supports from {FEW}"
        names = {zeros: f"{name} {zeros:g}" for zeros in sorted(self.setting.zeros)}
        missing = [z for z, each in names.items() if not (self.folder / f"{each}.json").is_file()]
        if missing:
            loader = loader_of(self.dataset.train, self.dataset)
            shares = [1 - zeros for zeros in missing]
            fits = fit_supports(self.teacher, loader, samples, shares)
            for zeros, (model, seconds) in zip(missing, fits, strict=True):
                cost = worth(model, self.teacher, self.dataset)
                cell = {**cost, **self._with_tuning(model, seconds)}
                write_atomic(self.folder / f"{names[zeros]}.json", json_bytes(cell))
        return {each: self._cell(each, dict) for each in names.values()}


def run(root: Path | None = None) -> dict[str, object]:
    """Measure what is missing, and print the tables.

    Args:
        root: folder of Fashion-MNIST's four IDX files; None downloads them.

    Returns:
        For each data set a row a method and share of zeros: means and worst of the seeds.
    """
    tables = {}
    wanted = os.environ.get("CELLS", "")
    for setting in _settings(root):
        seeds = [seed for seed in SEEDS if f"{setting.name}/{seed}".startswith(wanted)]
        found = [Bench(setting, seed).measured() for seed in seeds]
        if found:
            tables[setting.name] = list(_rows(found))
    return {"tables": tables}


def _settings(root: Path | None) -> Iterator[Setting]:
    small = (64, 32, 16)
    # Shifts of 4 pixels, usual for convolutions, keep a perceptron from fitting (49 %).
    near = partial(cifar10, augment=True, shift=1)
    folder = None if root is None else str(root)
    yield Setting(
        "fashion_mnist",
        lambda: fashion_mnist(root=folder, validation_fraction=0.0),
        small,
        ZEROS,
    )
    for name, load, hidden, zeros, training in (
        ("mnist", mnist, small, ZEROS, TEACHER),
        ("cifar10", near, (512, 256), (0.95, 0.9), replace(TEACHER, epochs=30, lr=1e-3)),
    ):
        place = os.environ.get(f"{name.upper()}_ROOT")
        if place is None:
            print(f"{name}: not measured, {name.upper()}_ROOT is not set", flush=True)
        else:
            yield Setting(
                name,
                partial(load, root=place, validation_fraction=0.0),
                hidden,
                zeros,
                training,
                few=name == "mnist",
            )


def _rows(found: list[Mapping[str, Cell]]) -> Iterator[dict[str, object]]:
    """Mean and worst of the seeds, in per cent."""
    for name in found[0]:
        row: dict[str, object] = {"what": name}
        for key in ("accuracy", "tuned_accuracy"):
            values = [100 * cells[name][key] for cells in found if key in cells[name]]
            if values:
                row[key] = round(statistics.mean(values), 2)
                row[f"worst_{key}"] = round(min(values), 2)
        for key in ("seconds", "tuning_seconds", "bytes", "microseconds"):
            values = [cells[name][key] for cells in found if key in cells[name]]
            if values:
                row[key] = round(statistics.mean(values), 2)
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        yield row
