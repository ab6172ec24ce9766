"""Tasks that tell extrapolation from interpolation: exact rules on numbers of any size.

A sample is a sequence of ``length`` independent numbers, one feature a step; its target follows
from an exact rule. Training numbers are uniform in one range, test numbers of shift f uniform in a
range of width f about the same middle: U[-f/2, f/2] for a training range about zero. A model that
has found the rule keeps its accuracy at every f. Argmax is that of Decugis, Tsai, Emerling, Ganesh
and El Ghaoui, "The Extrapolation Power of Implicit Models", IJCAI 2024 (arXiv 2407.14430), at the
size of its authors' code; the paper names the other three without giving their definitions, which
are therefore this module's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from idl_cli.config.arguments import check_options
from idl_cli.data.assembly import assemble
from idl_cli.data.dataset import Dataset
from idl_cli.data.options import (
    ArgmaxOptions,
    ArithmeticOptions,
    ExtrapolationOptions,
    IdentityOptions,
    RollingMeanOptions,
)
from idl_cli.data.randomness import Purpose
from idl_cli.data.split import Split
from idl_cli.data.synthetic.distributions import uniform
from idl_cli.data.synthetic.shifts import Shifts
from idl_cli.data.task import Task


@dataclass(frozen=True)
class _Draw:
    """How numbers are drawn: everything but the rule."""

    length: int
    train_range: Sequence[float]
    test_range: Sequence[float] | None
    shifts: Sequence[float]
    train_samples: int
    test_samples: int
    validation_fraction: float
    seed: int

    def __post_init__(self) -> None:
        values = {key: value for key, value in vars(self).items() if key != "seed"}
        check_options(ExtrapolationOptions, values, section="dataset")

    def numbers(self, samples: int, bounds: Sequence[float], purpose: Purpose) -> Tensor:
        """Sequences (samples, length, 1), float32: what a model in any dtype sees exactly."""
        low, high = bounds
        drawn = uniform(samples * self.length, low, high, purpose, self.seed)
        return torch.from_numpy(drawn).float().reshape(samples, self.length, 1)


def argmax(
    *,
    length: int = ArgmaxOptions.length,
    train_range: Sequence[float] = ArgmaxOptions.train_range,
    test_range: Sequence[float] | None = ArgmaxOptions.test_range,
    shifts: Sequence[float] = ArgmaxOptions.shifts,
    train_samples: int = ArgmaxOptions.train_samples,
    test_samples: int = ArgmaxOptions.test_samples,
    validation_fraction: float = ArgmaxOptions.validation_fraction,
    seed: int = 0,
    cache_dir: Path | str | None = None,
) -> Dataset:
    """Where the largest of ``length`` numbers is: a classification with ``length`` classes.

    Args:
        length: numbers in a sequence.
        train_range: training numbers are uniform in it.
        test_range: test numbers are uniform in it; None for the training range.
        shifts: widths f of the further ranges to evaluate at.
        train_samples: sequences to train on, validation part included.
        test_samples: sequences to test on, at every shift.
        validation_fraction: share of the training sequences held out.
        seed: fixes every number.
        cache_dir: taken for uniformity; nothing is downloaded.

    Raises:
        ConfigError: a range is empty.
    """
    draw = _Draw(
        length,
        train_range,
        test_range,
        shifts,
        train_samples,
        test_samples,
        validation_fraction,
        seed,
    )
    classes = tuple(str(position) for position in range(length))
    task = Task("classification", (length, 1), length, classes, sequence=True)
    return _generate("argmax", task, draw, lambda numbers: numbers.argmax(dim=1))


def identity(
    *,
    length: int = IdentityOptions.length,
    train_range: Sequence[float] = IdentityOptions.train_range,
    test_range: Sequence[float] | None = IdentityOptions.test_range,
    shifts: Sequence[float] = IdentityOptions.shifts,
    train_samples: int = IdentityOptions.train_samples,
    test_samples: int = IdentityOptions.test_samples,
    validation_fraction: float = IdentityOptions.validation_fraction,
    seed: int = 0,
    cache_dir: Path | str | None = None,
) -> Dataset:
    """The ``length`` numbers themselves, all at once: y = u; arguments as those of ``argmax``.

    Raises:
        ConfigError: a range is empty.
    """
    draw = _Draw(
        length,
        train_range,
        test_range,
        shifts,
        train_samples,
        test_samples,
        validation_fraction,
        seed,
    )
    task = Task("regression", (length, 1), length, sequence=True)
    return _generate("identity", task, draw, lambda numbers: numbers)


def rolling_mean(
    *,
    length: int = RollingMeanOptions.length,
    window: int = RollingMeanOptions.window,
    train_range: Sequence[float] = RollingMeanOptions.train_range,
    test_range: Sequence[float] | None = RollingMeanOptions.test_range,
    shifts: Sequence[float] = RollingMeanOptions.shifts,
    train_samples: int = RollingMeanOptions.train_samples,
    test_samples: int = RollingMeanOptions.test_samples,
    validation_fraction: float = RollingMeanOptions.validation_fraction,
    seed: int = 0,
    cache_dir: Path | str | None = None,
) -> Dataset:
    """The mean of the last ``window`` of ``length`` numbers: the rolling mean at the last step.

    Args:
        length: numbers in a sequence.
        window: how many of them are averaged, 1 to ``length``.
        train_range: see ``argmax``, as the arguments that follow.
        test_range: see ``argmax``.
        shifts: see ``argmax``.
        train_samples: see ``argmax``.
        test_samples: see ``argmax``.
        validation_fraction: see ``argmax``.
        seed: see ``argmax``.
        cache_dir: see ``argmax``.

    Raises:
        ConfigError: a range is empty, or the window is longer than the sequence.
    """
    check_options(RollingMeanOptions, {"length": length, "window": window}, section="dataset")
    draw = _Draw(
        length,
        train_range,
        test_range,
        shifts,
        train_samples,
        test_samples,
        validation_fraction,
        seed,
    )
    task = Task("regression", (length, 1), 1, sequence=True)
    return _generate(
        "rolling_mean",
        task,
        draw,
        lambda numbers: numbers[:, length - window :].mean(dim=1, keepdim=True),
    )


def arithmetic(
    *,
    operation: Literal["add", "subtract", "multiply"] = ArithmeticOptions.operation,
    length: int = ArithmeticOptions.length,
    train_range: Sequence[float] = ArithmeticOptions.train_range,
    test_range: Sequence[float] | None = ArithmeticOptions.test_range,
    shifts: Sequence[float] = ArithmeticOptions.shifts,
    train_samples: int = ArithmeticOptions.train_samples,
    test_samples: int = ArithmeticOptions.test_samples,
    validation_fraction: float = ArithmeticOptions.validation_fraction,
    seed: int = 0,
    cache_dir: Path | str | None = None,
) -> Dataset:
    """An operation on two sums: y = a ∘ b, a the sum of the first half, b that of the second.

    In the manner of Trask et al., "Neural Arithmetic Logic Units" (arXiv 1808.00508), whose
    operands are sums of parts of the input too.

    Args:
        operation: a + b, a - b or a · b.
        length: numbers in a sequence, at least 2; of an odd length the second half is the longer.
        train_range: see ``argmax``, as the arguments that follow.
        test_range: see ``argmax``.
        shifts: see ``argmax``.
        train_samples: see ``argmax``.
        test_samples: see ``argmax``.
        validation_fraction: see ``argmax``.
        seed: see ``argmax``.
        cache_dir: see ``argmax``.

    Raises:
        ConfigError: a range is empty, or there are no two numbers.
    """
    check_options(ArithmeticOptions, {"length": length}, section="dataset")
    draw = _Draw(
        length,
        train_range,
        test_range,
        shifts,
        train_samples,
        test_samples,
        validation_fraction,
        seed,
    )
    task = Task("regression", (length, 1), 1, sequence=True)
    combine: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "add": torch.add,
        "subtract": torch.sub,
        "multiply": torch.mul,
    }

    def target(numbers: Tensor) -> Tensor:
        half = length // 2
        first = numbers[:, :half].sum(dim=1, keepdim=True)
        second = numbers[:, half:].sum(dim=1, keepdim=True)
        return combine[operation](first, second)

    return _generate("arithmetic", task, draw, target)


def _generate(name: str, task: Task, draw: _Draw, target: Callable[[Tensor], Tensor]) -> Dataset:
    """Draw the parts; ``target`` maps numbers (m, length), float64, to targets."""

    def part(samples: int, bounds: Sequence[float], purpose: Purpose) -> Split:
        numbers = draw.numbers(samples, bounds, purpose)
        return Split(numbers, target(numbers[:, :, 0].double()))

    low, high = draw.train_range
    middle = (low + high) / 2

    def shifted(shift: float) -> Split:
        bounds = (middle - shift / 2, middle + shift / 2)
        return part(draw.test_samples, bounds, Purpose.TEST_NUMBERS)

    dataset = assemble(
        name,
        part(draw.train_samples, draw.train_range, Purpose.TRAIN_NUMBERS),
        part(draw.test_samples, draw.test_range or draw.train_range, Purpose.TEST_NUMBERS),
        task,
        seed=draw.seed,
        normalize="none",
        divisor=1.0,
        train_samples=None,
        test_samples=None,
        validation_fraction=draw.validation_fraction,
    )
    about = "" if middle == 0 else f"{middle:g} + "
    meaning = f"width f of the test range {about}[-f/2, f/2]"
    return replace(dataset, shifts=Shifts(tuple(draw.shifts), shifted, high - low, meaning))
