"""What every export format is handed: a run's model, its data, and the inputs that it is for."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from idl_cli.data.dataset import Dataset
from idl_cli.data.files.npy_format import Array
from idl_cli.data.preprocessing import Preprocessing
from idl_cli.data.task import Task
from idl_cli.equilibrium.settings import FixedPointSettings
from idl_cli.errors import UnsupportedModelError
from idl_cli.export.equations import Changes, Equations, Implicit, equations_of
from idl_cli.export.error_bound import ErrorBound, Floats, InputRange, bound_of
from idl_cli.run import LoadedRun

_MOST_STEPS = 20_000
_ROWS = 1024


@dataclass(frozen=True)
class Deployment:
    """A model to be written in another form.

    Args:
        run: the model, with its preprocessing and task.
        task: of the model.
        dataset: the run's own; its samples say which inputs there are.
        summary: what the run's ``summary.json`` holds.
        settings: what the run was made with; empty where it does not say.
    """

    run: LoadedRun
    task: Task
    dataset: Dataset
    summary: Mapping[str, object]
    settings: Mapping[str, object]

    @property
    def preprocessing(self) -> Preprocessing:
        """Raw samples to the model's inputs."""
        return self.run.preprocessing or Preprocessing("none", self.task.input_shape)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of a classifier, numbers where the classes have no names; empty of a regression."""
        if self.task.kind == "regression":
            return ()
        return self.task.class_names or tuple(map(str, range(self.task.output_dim)))

    @property
    def raw_dtype(self) -> np.dtype[np.generic]:
        """Type of the raw samples: 8-bit pixels, or numbers as the data hold them."""
        kinds = {torch.uint8: np.uint8, torch.float32: np.float32}
        return np.dtype(kinds.get(self.dataset.test.inputs.dtype, np.float64))

    @property
    def weights_in_words(self) -> str:
        """How many parameters there are, and how many of them are not zero."""
        parameters = list(self.run.model.parameters())
        count = sum(each.numel() for each in parameters)
        used = sum(int(each.count_nonzero()) for each in parameters)
        return f"{count:,} parameters, {used:,} of them not zero"

    @cached_property
    def equations(self) -> tuple[Equations, Changes | None]:
        """The model as arrays.

        Raises:
            UnsupportedModelError: it is of a type that has none.
        """
        return equations_of(self.run.model)

    @cached_property
    def input_range(self) -> InputRange:
        """Pixels in all of their range; other inputs in that of the run's samples, by entry."""
        divisor, shape = self.preprocessing.divisor, self.task.input_shape
        if divisor != 1.0:
            ends = [torch.full((1, *shape), end, dtype=torch.float64) for end in (0.0, divisor)]
            described = f"all pixels from 0 to {divisor:g}"
        else:
            parts = (self.dataset.train, self.dataset.validation, self.dataset.test)
            raw = [part.inputs.double() for part in parts if part is not None and len(part)]
            low = torch.stack([each.amin(dim=0) for each in raw]).amin(dim=0)
            high = torch.stack([each.amax(dim=0) for each in raw]).amax(dim=0)
            ends = [low[None], high[None]]
            described = "every entry within the range of the run's samples"
        low_end, high_end = (self.preprocessing(end, dtype=torch.float64)[0] for end in ends)
        _, changes = self.equations
        if changes is not None:
            scale = torch.from_numpy(changes.input_scale)
            low_end, high_end = (
                torch.cat([torch.zeros_like(to[:1]), to[1:] - since[:-1]]) / scale
                for to, since in ((low_end, high_end), (high_end, low_end))
            )
        return InputRange(low_end.flatten().numpy(), high_end.flatten().numpy(), described)

    def bound(self, *, tolerance: float, steps: int | None, by_samples: bool) -> ErrorBound | None:
        """The number of steps and its proven error; None of a model that has no equilibrium.

        Args:
            tolerance: largest error of an output from stopping early, before a regression's
                targets are brought to their own unit.
            steps: K; None for the fewest that do.
            by_samples: whether the bound is for the run's samples, rather than for their range.
        """
        equations, _ = self.equations
        if not isinstance(equations, Implicit):
            return None
        samples = None
        if by_samples:
            parts = (self.dataset.train, self.dataset.validation, self.dataset.test)
            raw = torch.cat([part.inputs for part in parts if part is not None])
            read = _read(torch.cat(list(self._inputs(raw))), self.equations[1])
            samples = read.flatten(1).numpy()
        return bound_of(
            equations, self.input_range, tolerance=tolerance, steps=steps, samples=samples
        )

    @torch.no_grad()
    def exact_outputs(self, raw: Tensor) -> Floats:
        """Outputs (m, q) of the equilibrium itself, in float64, in the targets' own unit."""
        model = exact(self.run.model)
        outputs = [model(inputs) for inputs in self._inputs(raw)]
        return self.in_own_unit(torch.cat(outputs)).numpy()

    @torch.no_grad()
    def own_outputs(self, raw: Tensor) -> Floats:
        """Outputs (m, q) of the model as the run uses it, in the targets' own unit."""
        apply = self.preprocessing.on("cpu", self.run.dtype)
        return self.in_own_unit(
            torch.cat([self.run.model(apply(batch)) for batch in torch.split(raw, _ROWS)])
        ).numpy()

    def _inputs(self, raw: Tensor) -> Iterator[Tensor]:
        """The model's inputs in float64, a part at a time."""
        for part in torch.split(raw, _ROWS):
            yield self.preprocessing(part, dtype=torch.float64)

    def in_own_unit(self, outputs: Tensor) -> Tensor:
        """Outputs of a regression in the unit of its targets; those of a classifier as they are."""
        scaling = self.task.target_scaling
        return outputs if scaling is None else scaling.unscale(outputs)

    @property
    def output_unit(self) -> float:
        """How much an output grows when it is brought to its own unit, at most."""
        scaling = self.task.target_scaling
        unit = 1.0 if scaling is None else max(scaling.std)
        try:
            _, changes = self.equations
        except UnsupportedModelError:
            return unit
        return unit if changes is None else unit * float(changes.scale.max())


class Format(ABC):
    """A deployable form: writes it, and applies what it has written as its users will."""

    @abstractmethod
    def write(self, deployment: Deployment, folder: Path) -> Written:
        """Write the files of a model into an empty folder.

        Raises:
            UnsupportedModelError: the form cannot hold such a model; the message names it.
        """


@dataclass(frozen=True)
class Written:
    """What a format has written.

    Args:
        runtime: raw samples (m, …) to outputs (m, q), by what is in the folder alone.
        bound: on the outputs' error; None where nothing is left out.
        load: the lines of Python that load the model and predict, for the card.
        needs: packages that those lines need.
        notes: what else a user should know, a sentence each.
    """

    runtime: Callable[[Array], Floats]
    bound: ErrorBound | None
    load: str
    needs: Sequence[str]
    notes: Sequence[str] = ()


def _read(inputs: Tensor, changes: Changes | None) -> Tensor:
    """What a model reads of windows (m, steps, features): their changes, where it reads those."""
    if changes is None:
        return inputs
    differences = torch.diff(inputs, dim=1, prepend=inputs[:, :1])
    return differences / torch.from_numpy(changes.input_scale)


def exact(model: nn.Module) -> nn.Module:
    """A copy of a model in float64 whose equilibria are solved to all digits."""
    wide = copy.deepcopy(model).double().eval()
    for module in wide.modules():
        settings = getattr(module, "forward_settings", None)
        if isinstance(settings, FixedPointSettings):
            solved = replace(settings, tol=1e-12, max_iter=_MOST_STEPS)
            module.forward_settings = solved  # type: ignore[assignment]
    return wide
