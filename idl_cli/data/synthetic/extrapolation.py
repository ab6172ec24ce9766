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

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from idl_cli.config.arguments import keywords_of
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


@keywords_of(ArgmaxOptions, section="dataset")
def argmax(
    options: ArgmaxOptions, *, seed: int = 0, cache_dir: Path | str | None = None
) -> Dataset:
    """Where the largest of ``length`` numbers is: a classification with ``length`` classes.

    Args:
        options: the keys of ``configs/dataset/argmax.yaml``, each a keyword argument of its own.
        seed: fixes every number.
        cache_dir: taken for uniformity; nothing is downloaded.

    Raises:
        ConfigError: a key is out of range, or a range is empty.
    """
    length = options.length
    classes = tuple(str(position) for position in range(length))
    task = Task("classification", (length, 1), length, classes, sequence=True)
    return _generate("argmax", task, options, seed, lambda numbers: numbers.argmax(dim=1))


@keywords_of(IdentityOptions, section="dataset")
def identity(
    options: IdentityOptions, *, seed: int = 0, cache_dir: Path | str | None = None
) -> Dataset:
    """The ``length`` numbers themselves, all at once: y = u; arguments as those of ``argmax``."""
    task = Task("regression", (options.length, 1), options.length, sequence=True)
    return _generate("identity", task, options, seed, lambda numbers: numbers)


@keywords_of(RollingMeanOptions, section="dataset")
def rolling_mean(
    options: RollingMeanOptions, *, seed: int = 0, cache_dir: Path | str | None = None
) -> Dataset:
    """The mean of the last ``window`` of ``length`` numbers: the rolling mean at the last step.

    Arguments as those of ``argmax``, and ``window``: how many are averaged, 1 to ``length``.
    """
    first = options.length - options.window
    task = Task("regression", (options.length, 1), 1, sequence=True)
    return _generate(
        "rolling_mean",
        task,
        options,
        seed,
        lambda numbers: numbers[:, first:].mean(dim=1, keepdim=True),
    )


@keywords_of(ArithmeticOptions, section="dataset")
def arithmetic(
    options: ArithmeticOptions, *, seed: int = 0, cache_dir: Path | str | None = None
) -> Dataset:
    """An operation on two sums: y = a ∘ b, a the sum of the first half, b that of the second.

    In the manner of Trask et al., "Neural Arithmetic Logic Units" (arXiv 1808.00508), whose
    operands are sums of parts of the input too. Arguments as those of ``argmax``, and
    ``operation``: a + b, a - b or a · b; of an odd length the second half is the longer.
    """
    task = Task("regression", (options.length, 1), 1, sequence=True)
    combine: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "add": torch.add,
        "subtract": torch.sub,
        "multiply": torch.mul,
    }

    def target(numbers: Tensor) -> Tensor:
        half = options.length // 2
        first = numbers[:, :half].sum(dim=1, keepdim=True)
        second = numbers[:, half:].sum(dim=1, keepdim=True)
        return combine[options.operation](first, second)

    return _generate("arithmetic", task, options, seed, target)


def _generate(
    name: str,
    task: Task,
    options: ExtrapolationOptions,
    seed: int,
    target: Callable[[Tensor], Tensor],
) -> Dataset:
    """Draw the parts; ``target`` maps numbers (m, length), float64, to targets."""

    def part(samples: int, bounds: tuple[float, float], purpose: Purpose) -> Split:
        drawn = uniform(samples * options.length, *bounds, purpose, seed)
        # float32: what a model in any dtype sees exactly.
        numbers = torch.from_numpy(drawn).float().reshape(samples, options.length, 1)
        return Split(numbers, target(numbers[:, :, 0].double()))

    low, high = options.train_range
    middle = (low + high) / 2

    def shifted(shift: float) -> Split:
        bounds = (middle - shift / 2, middle + shift / 2)
        return part(options.test_samples, bounds, Purpose.TEST_NUMBERS)

    test_range = options.test_range or options.train_range
    dataset = assemble(
        name,
        part(options.train_samples, options.train_range, Purpose.TRAIN_NUMBERS),
        part(options.test_samples, test_range, Purpose.TEST_NUMBERS),
        task,
        seed=seed,
        normalize="none",
        divisor=1.0,
        train_samples=None,
        test_samples=None,
        validation_fraction=options.validation_fraction,
    )
    about = "" if middle == 0 else f"{middle:g} + "
    meaning = f"width f of the test range {about}[-f/2, f/2]"
    return replace(dataset, shifts=Shifts(options.shifts, shifted, high - low, meaning))
