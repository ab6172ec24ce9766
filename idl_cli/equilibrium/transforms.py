"""What torch's function transforms ask of an autograd.Function whose solve looks at values.

Three mechanisms batch or differentiate a Function: ``torch.func`` (vmap, grad, jvp and what is made
of them), ``torch.autograd.forward_ad``, and the older batching behind ``vectorize=True`` and
``is_grads_batched=True``, which only a backward meets. Solves stop by the values of their
residuals, so samples of all batches are solved as one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def transforming() -> bool:
    """Whether a tensor may be other than plain values: batched, or with a tangent."""
    functional: bool = torch._C._are_functorch_transforms_active()
    return functional or forward_ad._current_level >= 0


def over_batch(
    function: Callable[..., Tensor],
    size: int,
    samples: Sequence[Tensor | None],
    sample_dims: Sequence[int | None],
    factors: Sequence[Tensor],
    factor_dims: Sequence[int | None],
) -> tuple[Tensor, int]:
    """Evaluate what maps samples (m, n) and the factors of A to (m, n) over a dimension more.

    One call where all share A; where A differs, one for each.

    Args:
        function: takes the samples, then the factors.
        size: of the further dimension.
        samples: tensors (m, n), or None.
        sample_dims: where each has the further dimension; None for a tensor without it.
        factors: of A.
        factor_dims: likewise.

    Returns:
        The values (size, m, n), and where their further dimension is: what the ``vmap`` of a
        Function returns.
    """
    if all(dim is None for dim in factor_dims):
        folded = [
            None if each is None else _in_front(each, dim, size).flatten(0, 1)
            for each, dim in zip(samples, sample_dims, strict=True)
        ]
        values = function(*folded, *factors)
        return values.reshape(size, -1, values.shape[1]), 0
    tensors, dims = (*samples, *factors), (*sample_dims, *factor_dims)
    each = [
        function(
            *(
                tensor if tensor is None or dim is None else tensor.select(dim, index)
                for tensor, dim in zip(tensors, dims, strict=True)
            )
        )
        for index in range(size)
    ]
    return torch.stack(each), 0


def _in_front(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def backward_rule(backward: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
    """Let a backward take the batched gradients of ``vectorize=True`` as those of ``torch.vmap``.

    Args:
        backward: of a Function that ``torch.vmap`` can go through.
    """

    @wraps(backward)
    def accepting(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        return _with_old_batches(partial(backward, ctx), gradients)

    return accepting


def forward_rule(rule: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Make the ``jvp`` of a Function of its rule; batched tangents as for ``backward_rule``.

    Torch calls a ``jvp`` with forward mode off: the derivative of a derivative, both in forward
    mode, would silently be zero. So it is on here, and the saved tensors come without the tangents
    of the level whose tangents are being made.

    Args:
        rule: takes the context, the saved tensors as a tuple, and the tangents.
    """

    @wraps(rule)
    def accepting(ctx: Any, *tangents: Tensor | None) -> Tensor:
        with forward_ad._set_fwd_grad_enabled(True):
            saved = tuple(
                forward_ad.unpack_dual(each).primal  # type: ignore[no-untyped-call]
                for each in ctx.saved_tensors
            )
            result: Tensor = _with_old_batches(
                lambda *tangents: (rule(ctx, saved, *tangents),), tangents
            )[0]
            return result

    return accepting


def _with_old_batches(
    function: Callable[..., tuple[Any, ...]], arguments: Sequence[Tensor | None]
) -> tuple[Any, ...]:
    """Call ``function``; over arguments of the older batching by ``torch.vmap``."""
    old = [
        argument is not None and torch._C._functorch.is_legacy_batchedtensor(argument)
        for argument in arguments
    ]
    if not any(old):
        return function(*arguments)
    level = torch._C._vmapmode_increment_nesting() - 1
    torch._C._vmapmode_decrement_nesting()
    plain = [
        torch._remove_batch_dim(argument, level, 1, 0)
        if batched and argument is not None
        else argument
        for argument, batched in zip(arguments, old, strict=True)
    ]
    there: list[bool] = []

    def present(*arguments: Tensor | None) -> tuple[Any, ...]:
        results = function(*arguments)
        there[:] = [result is not None for result in results]
        return tuple(result for result in results if result is not None)

    found = iter(torch.vmap(present, tuple(0 if batched else None for batched in old))(*plain))
    return tuple(torch._add_batch_dim(next(found), 0, level) if each else None for each in there)
