"""Which weights of a model are multiplied by their non-zeros alone, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from idl_cli.equilibrium.operators import (
    SparseOperator,
    SparsePattern,
    most_nonzeros,
    product,
    sparse_pays,
    written,
)
from idl_cli.equilibrium.transforms import transforming

Made = TypeVar("Made")


@dataclass(frozen=True)
class _Seen:
    """A weight as it was: ``mark`` is its product with a vector, which no change leaves alone."""

    version: tuple[int, int]
    mark: Tensor
    made: object


class FewNonzeros:
    """Makes sparse operators of a model's weights.

    A weight whose gradient is asked for is sparse only while a trainer keeps its zeros: of others
    the gradient at a zero matters. One that needs none is compressed once, and anew after any
    change. Torch does not count what is written through ``.data`` or numpy, so each time a product
    is compared to the bit; what that misses is below the rounding of the products.
    """

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._held: Mapping[str, SparsePattern] = {}

    def __reduce__(self) -> tuple[type[FewNonzeros], tuple[()]]:
        # A copy of the model looks for itself.
        return FewNonzeros, ()

    @contextmanager
    def held(self, patterns: Mapping[str, SparsePattern]) -> Iterator[None]:
        """Take the zeros outside these patterns, by the weights' names, for lasting ones."""
        before, self._held = self._held, patterns
        try:
            yield
        finally:
            self._held = before

    def operator(self, name: str, weight: Tensor) -> SparseOperator | None:
        """Return a weight by its non-zeros; None where it is better dense.

        The same operator as the last time, where nothing has changed.

        Args:
            name: of the weight.
            weight: (rows, columns).
        """
        if transforming():
            return None
        if name in self._held:
            pattern = self._held[name]
            return SparseOperator(pattern.values(weight), pattern)
        if torch.is_grad_enabled() and weight.requires_grad:
            return None
        if not most_nonzeros(*weight.shape):
            return None
        return self.unchanged(name, weight, partial(compressed, weight))

    def unchanged(self, name: str, weight: Tensor, make: Callable[[], Made]) -> Made:
        """Return what is made of a weight; the same as the last time, where nothing has changed.

        Args:
            name: of what is made.
            weight: that it is made of; one whose gradient is asked for changes with every step.
            make: makes it, without a graph where it is to be kept.
        """
        if transforming() or (torch.is_grad_enabled() and weight.requires_grad):
            return make()
        seen = self._seen.get(name)
        version = written(weight)
        if seen is not None and seen.version == version and torch.equal(seen.mark, _mark(weight)):
            return cast(Made, seen.made)
        # What is made in inference mode could not be used where a gradient of the inputs is asked.
        with torch.inference_mode(False), torch.no_grad():
            made = make()
        self._seen[name] = _Seen(version, _mark(weight), made)
        return made

    def linear(self, name: str, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return weight · inputs + bias for every sample (m, rows).

        Args:
            name: of the weight.
            inputs: (m, columns).
            weight: (rows, columns).
            bias: (rows,), or None.
        """
        # Sparse products need full precision; a compiled graph does not look at values.
        dense = (
            torch.compiler.is_compiling()
            or torch.is_autocast_enabled(inputs.device.type)
            or inputs.dtype != weight.dtype
            or torch.finfo(weight.dtype).bits < 32
        )
        operator = None if dense else self.operator(name, weight)
        if operator is None:
            return functional.linear(inputs, weight, bias)
        return product(operator, inputs, weight.new_zeros(len(weight)) if bias is None else bias)


def lasting_patterns(module: nn.Module) -> dict[str, SparsePattern]:
    """Return the patterns of a module's own weights whose zeros, if they last, pay."""
    return {
        name: SparsePattern.of(weight)
        for name, weight in module.named_parameters(recurse=False)
        if weight.ndim == 2 and sparse_pays(weight)
    }


def compressed(weight: Tensor) -> SparseOperator | None:
    """Return a weight by its non-zeros; None where it is better dense."""
    if not sparse_pays(weight):
        return None
    pattern = SparsePattern.of(weight)
    return SparseOperator(pattern.values(weight), pattern)


@torch.no_grad()
def _mark(weight: Tensor) -> Tensor:
    columns = torch.arange(1, weight.shape[1] + 1, dtype=torch.float64, device=weight.device)
    return weight @ columns.square_().sin_().to(weight.dtype)
