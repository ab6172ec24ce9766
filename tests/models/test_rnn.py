import copy
import math

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from idl_cli import registry
from idl_cli.errors import ArgumentError, ConvergenceWarning, ShapeError, WellPosednessWarning
from idl_cli.models.rnn import ImplicitRNN

# Solved to rounding, so that what is compared differs by rounding alone.
EXACT = {"tol": 1e-15, "max_iter": 2000}
SAMPLES, STEPS, FEATURES, OUTPUTS, STATES, HIDDEN = 3, 4, 2, 3, 5, 4

KINDS = {
    "relu": {},
    "tanh with offsets": {"activation": "tanh", "bias": True},
    "leaky_relu": {"activation": "leaky_relu"},
    "softplus": {"activation": "softplus", "kappa": 0.8},
    "low rank": {"rank": 2},
    "triangular": {"well_posedness": "triangular"},
    "without D": {"no_D": True, "bias": True},
    "two layers": {"layers": 2},
    "anderson": {
        "forward": {**EXACT, "method": "anderson"},
        "backward": {**EXACT, "method": "anderson"},
    },
}


def normal(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def make(kind: str = "relu", *, feedback: float | None = 0.9, **changes: object) -> ImplicitRNN:
    """A float64 network; ``feedback`` scales the rows of A (or L) to that many times the bound."""
    torch.manual_seed(1)
    settings = {"forward": EXACT, "backward": EXACT, **KINDS[kind], **changes}
    model = ImplicitRNN(FEATURES, OUTPUTS, STATES, HIDDEN, **settings).double()
    if feedback is not None:
        with torch.no_grad():
            for part in model.implicit_models():
                full = part.rank is None
                matrix = part.A if full else part.L
                bound = part.kappa if full else math.sqrt(part.kappa)
                matrix.mul_(
                    feedback * bound / matrix.abs().sum(dim=1, keepdim=True).clamp(min=1e-9)
                )
    return model


def sequences(seed: int = 2, steps: int = STEPS) -> Tensor:
    return normal(SAMPLES, steps, FEATURES, seed=seed)


def unrolled(model: ImplicitRNN, inputs: Tensor, state: Tensor) -> Tensor:
    """h of every step of the last layer (m, T, h), one implicit model after another."""
    for cell, h in zip(model.cells, state, strict=True):
        outputs = []
        for step in range(inputs.shape[1]):
            h = cell(inputs[:, step], h)
            outputs.append(h)
        inputs = torch.stack(outputs, dim=1)
    return inputs


@pytest.mark.parametrize("kind", KINDS)
def test_equals_one_implicit_model_after_another_and_so_do_its_gradients(kind: str) -> None:
    model = make(kind, output="every")
    inputs = sequences().requires_grad_()
    state = normal(len(model.cells), SAMPLES, HIDDEN, seed=3).requires_grad_()
    weights = normal(SAMPLES, STEPS, OUTPUTS, seed=4)
    tensors = [inputs, state, *model.parameters()]

    prediction = model(inputs, state=state)
    gradients = torch.autograd.grad((weights * prediction).sum(), tensors)
    reference = model.readout(unrolled(model, inputs, state))
    expected = torch.autograd.grad((weights * reference).sum(), tensors)

    torch.testing.assert_close(prediction, reference, rtol=1e-12, atol=1e-12)
    for gradient, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-11, atol=1e-12)


# Strictly inside and strictly beyond the constraint: on its boundary the projection has a kink.
@pytest.mark.parametrize("feedback", [0.9, 1.7])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "anderson"])
def test_gradients_through_time_equal_finite_differences(kind: str, feedback: float) -> None:
    model = make(kind, feedback=feedback)
    state = normal(len(model.cells), SAMPLES, HIDDEN, seed=3).requires_grad_()
    names = [name for name, _ in model.named_parameters()]
    lengths = torch.tensor([2, 4, 1])

    def predict(inputs: Tensor, state: Tensor, *parameters: Tensor) -> Tensor:
        named = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(model, named, (inputs, lengths, state))

    arguments = (sequences().requires_grad_(), state, *model.parameters())
    assert torch.autograd.gradcheck(predict, arguments)


@pytest.mark.parametrize("output", ["last", "every"])
def test_padded_sequences_are_predicted_as_each_by_itself(output: str) -> None:
    model = make(output=output)
    lengths = torch.tensor([2, 4, 1])
    inputs = sequences()
    for sample, length in enumerate(lengths):
        inputs[sample, length:] = math.nan  # must never be looked at
    found = model.unroll(inputs, lengths)
    for sample, length in enumerate(lengths):
        alone = model.unroll(inputs[sample : sample + 1, :length])
        if output == "last":
            torch.testing.assert_close(found.prediction[sample], alone.prediction[0])
        else:
            torch.testing.assert_close(found.prediction[sample, :length], alone.prediction[0])
            assert not found.prediction[sample, length:].any()
        torch.testing.assert_close(found.state[:, sample], alone.state[:, 0])


def test_packed_sequences_come_back_packed() -> None:
    model = make(output="every")
    inputs, lengths = sequences(), torch.tensor([2, 4, 1])
    packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    found = model(packed)
    assert isinstance(found, PackedSequence)
    restored, found_lengths = pad_packed_sequence(found, batch_first=True)
    assert torch.equal(found_lengths, lengths)
    assert torch.equal(restored, model(inputs, lengths))


def test_every_ends_with_last() -> None:
    every, last = make(output="every"), make(output="last")
    last.load_state_dict(every.state_dict())
    assert torch.equal(every(sequences())[:, -1], last(sequences()))


@pytest.mark.parametrize("kind", ["relu", "two layers", "triangular"])
def test_a_sequence_may_be_run_in_parts(kind: str) -> None:
    model = make(kind)
    inputs = sequences(steps=7)
    whole = model.unroll(inputs)
    first = model.unroll(inputs[:, :3])
    second = model.unroll(inputs[:, 3:], state=first.state)
    torch.testing.assert_close(second.prediction, whole.prediction, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(second.state, whole.state, rtol=1e-12, atol=1e-12)


def test_truncation_equals_detaching_the_state_by_hand() -> None:
    inputs, weights = sequences(steps=7), normal(SAMPLES, 7, OUTPUTS, seed=4)
    cut, whole = make(truncate=3, output="every"), make(output="every")
    (weights * cut(inputs)).sum().backward()
    state, parts = None, []
    for part in inputs.split(3, dim=1):
        found = whole.unroll(part, state=state)
        state = found.state.detach()
        parts.append(found.prediction)
    (weights * torch.cat(parts, dim=1)).sum().backward()
    for truncated, by_hand in zip(cut.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(truncated.grad, by_hand.grad, rtol=1e-11, atol=1e-12)
    exact = make(output="every")
    (weights * exact(inputs)).sum().backward()
    assert not torch.allclose(cut.cells[0].model.B.grad, exact.cells[0].model.B.grad, rtol=1e-3)


def test_jacobian_free_gradient_takes_one_iteration_a_step() -> None:
    exact, free = make(), make(backward={"method": "jacobian_free"})
    free(sequences()).sum().backward()
    exact(sequences()).sum().backward()
    assert "backward_iterations_mean" not in free.solve_statistics.summary()
    # At the last step γ is the readout's own, so that C's gradient differs only through time.
    assert torch.equal(free.readout.weight.grad, exact.readout.weight.grad)
    assert not torch.allclose(free.cells[0].model.A.grad, exact.cells[0].model.A.grad, rtol=1e-3)


def test_large_inputs_converge_in_float32() -> None:
    torch.manual_seed(0)
    model = ImplicitRNN(1, 10, 20, 20)
    with torch.no_grad():
        for part in model.implicit_models():
            part.A.mul_(3)  # rows at the bound: the strongest feedback there is
    model.constrain_()
    inputs = (2 * torch.rand(300, 10, 1) - 1) * 1e5
    model(inputs).sum().backward()
    summary = model.solve_statistics.summary()
    assert summary["unconverged_share"] == 0
    assert summary["backward_unconverged_share"] == 0
    assert summary["residual_max"] <= 1e-5


def test_without_offsets_a_relu_cell_scales_with_its_input() -> None:
    model = make()
    state = model.unroll(sequences()).state
    torch.testing.assert_close(model.unroll(1e4 * sequences()).state, 1e4 * state)


def test_solves_of_all_steps_and_layers_are_counted_and_warned_of_once() -> None:
    model = make("two layers")
    model(sequences(), torch.tensor([2, 4, 1])).sum().backward()
    counts = model.solve_statistics.state_dict()
    assert counts["forward"]["samples"] == counts["backward"]["samples"] == 2 * (2 + 4 + 1)
    assert counts["forward"]["unconverged"] == 0
    hurried = make(forward={"tol": 1e-12, "max_iter": 2})
    with pytest.warns(ConvergenceWarning, match="did not converge") as caught:
        hurried(sequences())
    assert len(caught) == 1
    assert hurried.solve_statistics.summary()["unconverged_share"] > 0


def test_a_nan_in_one_sequence_leaves_the_others_alone() -> None:
    model = make()
    model.solve_statistics.warn = False
    inputs = sequences()
    clean = model(inputs)
    inputs[1, 2] = math.nan
    spoiled = model(inputs)
    assert spoiled[1].isnan().all()
    torch.testing.assert_close(spoiled[[0, 2]], clean[[0, 2]], rtol=1e-12, atol=1e-12)


def test_the_start_of_a_solve_does_not_change_its_result() -> None:
    # Constant inputs make the step before the better start, jumping ones the worse.
    for inputs in (sequences()[:, :1].expand(-1, 8, -1), 10 * sequences(steps=8)):
        model = make(output="every")
        reference = model.readout(unrolled(model, inputs, torch.zeros(1, SAMPLES, HIDDEN).double()))
        torch.testing.assert_close(model(inputs), reference, rtol=1e-12, atol=1e-12)


def test_constant_inputs_are_solved_faster_from_the_step_before() -> None:
    torch.manual_seed(0)
    settled, jumping = make(no_D=True), make(no_D=True)
    with torch.no_grad():  # without feedback through time the state of a constant input repeats
        for model in (settled, jumping):
            model.implicit_models()[0].C.zero_()
    settled(sequences()[:, :1].expand(-1, 30, -1))
    jumping(sequences(steps=30))
    mean = {name: model.solve_statistics.summary()["iterations_mean"]
            for name, model in (("settled", settled), ("jumping", jumping))}  # fmt: skip
    assert mean["settled"] < mean["jumping"] / 2


@pytest.mark.parametrize("feedback", [0.1, 0.9])  # plain iterations, and modulus ones
def test_a_backward_may_wait_for_other_forwards(feedback: float) -> None:
    def gradients(waiting: bool) -> list[Tensor]:
        model = make(feedback=feedback)
        first = model(sequences(seed=2))
        if waiting:
            model(sequences(seed=3))
        first.square().sum().backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    for waited, straight in zip(gradients(True), gradients(False), strict=True):
        assert torch.equal(waited, straight)


@pytest.mark.parametrize("kind", KINDS)
def test_an_equal_model_is_made_from_its_arguments_and_its_state(kind: str) -> None:
    model = make(kind)
    again = registry.build("model", {"name": "rnn", **model.constructor_arguments()}).double()
    again.load_state_dict(model.state_dict())
    assert again.constructor_arguments() == model.constructor_arguments()
    assert torch.equal(again(sequences()), model(sequences()))
    assert torch.equal(copy.deepcopy(model)(sequences()), model(sequences()))


def test_published_size() -> None:
    # The argmax network of the reference implementation: p=1, q=10, n=h=20.
    assert sum(p.numel() for p in ImplicitRNN(1, 10, 20, 20).parameters()) == 1850
    assert sum(p.numel() for p in ImplicitRNN(1, 10, 20, 20, bias=True).parameters()) == 1890


def test_constrain_projects_every_layer() -> None:
    model = make("two layers", feedback=3.0)
    assert model.implicit_models()[1].A.abs().sum(dim=1).min() > 0.95
    model.constrain_()
    for part in model.implicit_models():
        assert part.A.abs().sum(dim=1).max() <= part.kappa
    assert model.inf_norm_A() <= 0.95


def test_autocast_keeps_the_precision_of_the_solves() -> None:
    model = make().float()
    for part in model.implicit_models():
        part.forward_settings = type(part.forward_settings)()
    inputs = sequences().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.unroll(inputs.bfloat16())
    assert found.state.dtype == torch.float32
    torch.testing.assert_close(found.state, model.unroll(inputs.bfloat16().float()).state)


@pytest.mark.parametrize("kind", ["relu", "tanh with offsets", "low rank", "triangular"])
@pytest.mark.parametrize("feedback", [0.9, 1.5])  # inside the constraint set, and projected onto it
def test_a_backward_under_autocast_is_solved_in_float32(kind: str, feedback: float) -> None:
    settings = {"tol": 1e-6, "max_iter": 500}
    model = make(kind, feedback=feedback, forward=settings, backward=settings).float()
    inputs = sequences().bfloat16()
    model.unroll(inputs.float()).state.square().sum().backward()
    expected = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    model.solve_statistics.reset()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model.unroll(inputs).state.square().sum().backward()
    counted = model.solve_statistics.summary()
    assert counted["unconverged_share"] == counted["backward_unconverged_share"] == 0
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        if gradient is None:
            assert parameter.grad is None
        else:
            assert parameter.grad is not None
            assert torch.equal(parameter.grad, gradient)


def test_what_does_not_fit_is_refused_with_what_would() -> None:
    model = make()
    with pytest.raises(ShapeError, match=r"\(samples, steps, 2\)"):
        model(normal(3, 4, seed=1))
    with pytest.raises(ShapeError, match="float32"):
        model(sequences().float())
    with pytest.raises(ShapeError, match="between 1 and 4"):
        model(sequences(), torch.tensor([0, 4, 1]))
    with pytest.raises(ShapeError, match="whole numbers"):
        model(sequences(), torch.tensor([1.0, 4.0, 1.0]))
    with pytest.raises(ShapeError, match=r"\(layers, samples, hidden_dim\)"):
        model(sequences(), state=normal(2, SAMPLES, HIDDEN, seed=1))
    packed = pack_padded_sequence(sequences(), torch.tensor([4, 4, 4]), batch_first=True)
    with pytest.raises(ShapeError, match="leave lengths out"):
        model(packed, torch.tensor([4, 4, 4]))


def test_out_of_range_arguments_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"layers=0.*truncate=0"):
        ImplicitRNN(1, 1, layers=0, truncate=0)
    with pytest.raises(ArgumentError, match="output='first'"):
        ImplicitRNN(1, 1, output="first")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="rank=9"):
        ImplicitRNN(1, 1, 8, rank=9)


def test_unconstrained_cells_warn_and_still_solve_small_feedback() -> None:
    with pytest.warns(WellPosednessWarning):
        model = make(well_posedness="none", output="every")
    state = torch.zeros(1, SAMPLES, HIDDEN, dtype=torch.float64)
    reference = model.readout(unrolled(model, sequences(), state))
    torch.testing.assert_close(model(sequences()), reference, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rank", [None, 3])
def test_a_network_in_half_precision_is_solved_in_float32(
    dtype: torch.dtype, rank: int | None
) -> None:
    torch.manual_seed(0)
    model = ImplicitRNN(2, 3, 40, 8, rank=rank, layers=2, bias=True).to(dtype)
    inputs = torch.randn(5, 7, 2).to(dtype)
    found = model.unroll(inputs)
    assert isinstance(found.prediction, torch.Tensor)
    assert found.prediction.dtype == found.state.dtype == dtype
    assert model.solve_statistics.summary()["unconverged_share"] == 0.0
    exact = copy.deepcopy(model).double().unroll(inputs.double())
    # h is rounded between the layers and at the end, not at each of the seven steps.
    torch.testing.assert_close(
        found.state.double(), exact.state, rtol=4 * torch.finfo(dtype).eps, atol=2e-3
    )
    found.prediction.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == dtype for p in model.parameters())


@pytest.mark.filterwarnings("ignore::idl_cli.errors.WellPosednessWarning")
@pytest.mark.parametrize("method", ["auto", "picard"])
def test_a_damped_recurrence_of_no_contraction_has_the_gradient_of_its_steps(method: str) -> None:
    damped = {**EXACT, "method": method, "damping": 0.4}
    model = make(feedback=None, well_posedness="none", forward=damped)
    with torch.no_grad():
        for part in model.implicit_models():
            part.A.copy_(-1.5 * torch.eye(STATES))  # a plain step swings apart
            part.B.abs_()
    inputs = sequences().abs().requires_grad_()
    outputs = model(inputs)
    outputs.sum().backward()
    assert model.solve_statistics.summary()["unconverged_share"] == 0
    assert model.solve_statistics.summary()["backward_unconverged_share"] == 0
    step = 1e-6 * torch.ones_like(inputs)
    with torch.no_grad():
        slope = (model(inputs + step) - model(inputs - step)).sum() / 2
    assert inputs.grad is not None
    torch.testing.assert_close((inputs.grad * step).sum(), slope, rtol=1e-6, atol=1e-12)
