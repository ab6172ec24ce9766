"""Forward and backward of a recurrence of equilibria, step by step in state-major memory.

The equations are those of ``recurrence``. The input's part of all steps is one product before the
first, and the gradients of the weights are products over the whole sequence after the last; in
between, each step solves its equilibrium, or its adjoint, from what the step before left.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from idl_cli.equilibrium.gradient.first_derivative_only import refuse_second_derivative
from idl_cli.equilibrium.operators import DenseOperator
from idl_cli.equilibrium.precision import full_precision
from idl_cli.equilibrium.recurrence.feedback import feedback_of
from idl_cli.equilibrium.recurrence.layout import Recurrence, state_major
from idl_cli.equilibrium.recurrence.replay import replay
from idl_cli.equilibrium.recurrence.solves import AdjointSolves, StateSolves
from idl_cli.equilibrium.transforms import backward_rule, transforming


class RecurrenceFunction(torch.autograd.Function):
    """h of every step and of every sample's last, as ``implicit_recurrence`` returns them."""

    @staticmethod
    def forward(
        ctx: Any,
        recurrence: Recurrence,
        inputs: Tensor,
        initial: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        state_bias: Tensor | None,
        output_bias: Tensor | None,
        *factors: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Run through time."""
        problem = recurrence.problem
        operator = problem.form(*factors)
        rows, features = inputs.shape
        size, samples = operator.size, len(initial)
        offsets = _input_part(B[:, :features], state_bias, inputs)
        outputs = _input_part(
            C.new_zeros(len(C), features) if D is None else D[:, :features], output_bias, inputs
        )
        # [x_t, h_{t-1}] side by side, so that what both add to h_t is one product.
        pairs = state_major(rows, size + len(C), inputs)
        into_output = _beside(C, D, features).t()
        into_state = B[:, features:].t()
        feedback = feedback_of(problem, operator, samples)
        solves = StateSolves(problem, operator, feedback)
        h, x = initial, None
        sizes = recurrence.batch_sizes
        wholes = (pairs, pairs[:, :size], pairs[:, size:], offsets, outputs)
        for pair, state, before, offset, output in zip(
            *(each.split_with_sizes(sizes) for each in wholes), strict=True
        ):
            if pair.shape[0] < samples:
                samples = pair.shape[0]
                h, x = h[:samples], None if x is None else x[:samples]
            offset.addmm_(before.copy_(h), into_state)
            x = state.copy_(solves.solve(offset, x))
            h = output.addmm_(pair, into_output)
        solves.record(pairs[:, :size])
        if feedback is not None:
            feedback.release()
        ctx.recurrence = recurrence
        ctx.feedback = feedback
        ctx.final_rows = None
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(
            offsets, pairs, inputs, initial, B, C, D, state_bias, output_bias, *factors
        )
        if samples == len(initial):
            return outputs, h.clone()
        ctx.final_rows = recurrence.final_rows(inputs.device)
        return outputs, outputs.index_select(0, ctx.final_rows)

    @staticmethod
    @backward_rule
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        """Return the gradients of all that ``forward`` was given."""
        recurrence: Recurrence = ctx.recurrence
        _, _, *arguments = ctx.saved_tensors
        operator = recurrence.problem.form(*arguments[7:])
        reason = recurrence.approximation(operator)
        again = torch.is_grad_enabled()
        if transforming() or (again and reason is None):
            results = _replayed_gradients(ctx, gradients, again and reason is None)
        else:
            results = _gradients(ctx, gradients)
        if again and reason is not None:
            results = refuse_second_derivative(results, (*gradients, *arguments), reason)
        return None, *results


def _replayed_gradients(
    ctx: Any, gradients: tuple[Tensor | None, ...], again: bool
) -> tuple[Tensor | None, ...]:
    """Return what ``_gradients`` does: in the graph for ``again``, and of batches and tangents."""
    _, pairs, *arguments = ctx.saved_tensors
    needed = ctx.needs_input_grad[1:]
    with torch.enable_grad(), full_precision(pairs.device.type):
        # Views, so that a tensor that is given twice has a gradient for each time.
        views: list[Any] = [None if each is None else each.view_as(each) for each in arguments]
        outputs = replay(ctx.recurrence, *views, states=pairs[:, : arguments[2].shape[0]])
        found = iter(
            torch.autograd.grad(
                outputs,
                [view for view, wanted in zip(views, needed, strict=True) if wanted],
                [
                    torch.zeros_like(output) if gradient is None else gradient
                    for output, gradient in zip(outputs, gradients, strict=True)
                ],
                create_graph=again,
                allow_unused=True,
            )
        )
    return tuple(next(found) if wanted else None for wanted in needed)


def _gradients(ctx: Any, gradients: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    """Return the gradients of the tensors that ``forward`` was given, without a graph."""
    recurrence: Recurrence = ctx.recurrence
    problem = recurrence.problem
    offsets, pairs, inputs, _, B, C, D, _, _, *factors = ctx.saved_tensors
    _, for_inputs, for_initial, for_B, for_C, for_D, *for_rest = ctx.needs_input_grad
    size, features = offsets.shape[1], inputs.shape[1]
    with torch.no_grad(), full_precision(inputs.device.type):
        operator = problem.form(*factors)
        # [v_t, γ_t] side by side, like [x_t, h_{t-1}]: the gradients of the weights are blocks
        # of one product over the whole sequence.
        adjoints = state_major(len(pairs), pairs.shape[1], pairs)
        v, gamma = adjoints[:, :size], adjoints[:, size:]
        _gather(gamma, gradients[0], gradients[1], ctx.final_rows)
        z = pairs[:, :size]
        if problem.activation.name != "relu":  # of which x > 0 where z > 0
            z = operator.apply(z, offsets, state_major(len(pairs), size, pairs))
        slopes = problem.activation.derivative(z)
        solves = AdjointSolves(problem, operator, ctx.feedback)
        carried = _run_back(recurrence, solves, slopes, adjoints, (B, C, D), features)
        solves.record(v)
        blocks = adjoints.t() @ pairs
        from_inputs = adjoints.t() @ inputs
        if isinstance(operator, DenseOperator):
            pulled: tuple[Tensor | None, ...] = (blocks[:size, :size],)
        else:
            pulled = operator.factor_gradients(v, pairs[:, :size], for_rest[2:])
        into_inputs = None
        if for_inputs:
            into_inputs = v @ B[:, :features]
            if D is not None:
                into_inputs.addmm_(gamma, D[:, :features])
        return (
            into_inputs,
            carried if for_initial else None,
            torch.cat((from_inputs[:size], blocks[:size, size:]), 1) if for_B else None,
            blocks[size:, :size] if for_C else None,
            torch.cat((from_inputs[size:], blocks[size:, size:]), 1) if for_D else None,
            v.sum(dim=0) if for_rest[0] else None,
            gamma.sum(dim=0) if for_rest[1] else None,
            *(g if wanted else None for g, wanted in zip(pulled, for_rest[2:], strict=True)),
        )


def _input_part(weight: Tensor, bias: Tensor | None, inputs: Tensor) -> Tensor:
    """Return what the inputs and the offset add at every step (rows, k), state-major."""
    if bias is None:
        return torch.mm(weight, inputs.t()).t()
    return torch.addmm(bias[:, None], weight, inputs.t()).t()


def _beside(C: Tensor, D: Tensor | None, features: int) -> Tensor:
    """Return [C F] (h, n + h), with zeros for an F that is not there."""
    return torch.cat((C, C.new_zeros(len(C), len(C)) if D is None else D[:, features:]), dim=1)


def _gather(
    gamma: Tensor, every: Tensor | None, final: Tensor | None, final_rows: Tensor | None
) -> None:
    """Write ∂loss/∂h of every step's own (rows, h) into γ."""
    if every is None:
        gamma.zero_()
    else:
        gamma.copy_(every)
    if final is None:
        return
    if final_rows is None:
        gamma[-len(final) :].add_(final)
    else:
        gamma.index_add_(0, final_rows, final)


def _run_back(
    recurrence: Recurrence,
    solves: AdjointSolves,
    slopes: Tensor,
    adjoints: Tensor,
    weights: tuple[Tensor, Tensor, Tensor | None],
    features: int,
) -> Tensor:
    """Run backwards through time, and fill in [v, γ] of every step.

    Args:
        recurrence: layout and settings.
        solves: of the adjoints.
        slopes: φ′ at every step (rows, n).
        adjoints: [v, γ] (rows, n + h), overwritten; γ holds ∂loss/∂h of every step's own, to which
            is added what comes back through time.
        weights: B, C and D.
        features: p.

    Returns:
        ∂loss/∂h_0 (samples, h).
    """
    B, C, D = weights
    width, size, samples = *C.shape, recurrence.batch_sizes[0]
    feedback = B[:, features:]
    back = torch.cat((feedback, C.new_zeros(width, width) if D is None else D[:, features:]))
    carried = state_major(samples, width, slopes).zero_()
    pulled = state_major(samples, size, slopes)
    sizes = recurrence.batch_sizes
    wholes = (adjoints, adjoints[:, :size], adjoints[:, size:], slopes)
    pairs, values, gammas, derivatives = (each.split_with_sizes(sizes) for each in wholes)
    for step in range(len(sizes) - 1, -1, -1):
        count = sizes[step]
        gradient = torch.mm(gammas[step], C, out=pulled if count == samples else pulled[:count])
        values[step].copy_(solves.solve(derivatives[step], gradient))
        if recurrence.passes_gradient(step):
            target = gammas[step - 1] if step else carried
            (target if count == len(target) else target[:count]).addmm_(pairs[step], back)
    return carried
