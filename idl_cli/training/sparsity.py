"""Zeros that stay zero: fine-tuning a sparse model without filling it up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from idl_cli.models.parametrizations.model import FeedbackModel
from idl_cli.models.sparse.few_nonzeros import lasting_patterns


class SparsityMask:
    """Remembers which entries of the weight matrices are zero and keeps them so, to the bit.

    Vectors (biases) are left free: they start at zero because nothing is known of them, not
    because something was pruned.

    Args:
        model: its parameters with two or more dimensions are held to their present zeros.
    """

    def __init__(self, model: nn.Module) -> None:
        self._zeros: list[tuple[nn.Parameter, Tensor]] = []
        self._patterns = [
            (module.few_nonzeros, lasting_patterns(module))
            for module in model.modules()
            if isinstance(module, FeedbackModel)
        ]
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                zeros = parameter.detach() == 0
                if zeros.any():
                    self._zeros.append((parameter, zeros))

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Let implicit models compute with their non-zeros alone: no gradient flows to a zero."""
        with ExitStack() as stack:
            for few_nonzeros, patterns in self._patterns:
                stack.enter_context(few_nonzeros.held(patterns))
            yield

    def apply_to_gradients(self) -> None:
        """Clear the gradient of masked entries, so that neither norm nor moments contain it."""
        for parameter, zeros in self._zeros:
            if parameter.grad is not None:
                parameter.grad.masked_fill_(zeros, 0.0)

    @torch.no_grad()
    def apply_to_parameters(self) -> None:
        """Set masked entries to +0, whatever the step and the constraint made of them."""
        for parameter, zeros in self._zeros:
            parameter.masked_fill_(zeros, 0.0)
