"""A limit on non-zeros for the whole model: what it is spent on, and what the layers become."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from idl_cli.distributed.group import Group
from idl_cli.errors import (
    ArgumentError,
    ConvergenceWarning,
    IgnoredOptionWarning,
    UnsupportedModelError,
)
from idl_cli.models.implicit import ImplicitModel
from idl_cli.sim.fit.diagnosis import diagnose
from idl_cli.sim.fit.sparse.allocation import allocate
from idl_cli.sim.fit.sparse.kept_weights import Adam, KeptWeights
from idl_cli.sim.fit.sparse.layered import LayeredModel
from idl_cli.sim.fit.sparse.layers import feedforward_layers
from idl_cli.sim.fit.sparse.plan import Plan
from idl_cli.sim.fit.sparse.sensitivity import output_sensitivity
from idl_cli.sim.sim import SIM
from idl_cli.sim.solvers import ADMMSolver, BackwardEliminationSolver, SwapSolver
from idl_cli.sim.states.implicit_form import implicit_form
from idl_cli.sim.states.recorders import state_recorder
from tests.sim.ranks import run_ranks

Loader = list[tuple[Tensor, Tensor]]


def network(*, bias: bool = True) -> nn.Sequential:
    """784-64-32-16-10 in small, float64."""
    torch.manual_seed(3)
    layers: list[nn.Module] = []
    for into, out in ((9, 8), (8, 6), (6, 3)):
        layers += [nn.Linear(into, out, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).double()


class Residual(nn.Module):
    """An input that skips a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(9, 3)
        self.act, self.act2, self.last = nn.ReLU(), nn.ReLU(), nn.Linear(3, 2)

    def forward(self, u: Tensor) -> Tensor:
        x = torch.cat([self.act(self.first(u)), u], dim=1)
        return self.last(self.act2(self.second(x)))


def batches(samples: int = 300, *, inputs: int = 9, seed: int = 0) -> Loader:
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(samples, inputs, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (samples,), generator=generator)
    return list(zip(u.split(64), labels.split(64), strict=True))


def sparse(nonzeros: float, **options: object) -> SIM:
    settings = {"structure": "feedforward", "refine_epochs": 0, "dtype": torch.float64, **options}
    return SIM(nonzeros=nonzeros, **settings)  # type: ignore[arg-type]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    shapes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 6)), min_size=1, max_size=3),
    share=st.floats(0, 1),
)
def test_an_allocation_spends_what_there_is(
    seed: int, shapes: list[tuple[int, int]], share: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    increments = [torch.rand(*shape, generator=generator).double() for shape in shapes]
    sensitivity = [torch.rand(rows, generator=generator).double() for rows, _ in shapes]
    slots = sum(rows * features for rows, features in shapes)
    kept = round(share * slots)
    for how in ("pooled", "per_layer", "uniform"):
        sizes = allocate(increments, sensitivity, kept, how)  # type: ignore[arg-type]
        assert sum(int(size.sum()) for size in sizes) == kept
        for size, (rows, features) in zip(sizes, shapes, strict=True):
            assert size.shape == (rows,)
            assert bool(((size >= 0) & (size <= features)).all())
            if how == "uniform":
                assert bool(((size - features * kept / slots).abs() < 1).all())
            if how == "per_layer":
                assert abs(int(size.sum()) - rows * features * kept / slots) < 1


def test_weights_go_where_the_outputs_feel_them() -> None:
    """By hand: costs (1, 3, 3 | 2, 8) of two rows, times (1, 2): 1 3 3 | 4 16."""
    increments = [torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([[2.0, 8.0]])]
    sensitivity = [torch.tensor([1.0]), torch.tensor([2.0])]
    expected = {1: (0, 1), 2: (0, 2), 3: (1, 2), 4: (2, 2), 5: (3, 2)}
    for kept, (first, second) in expected.items():
        sizes = allocate(increments, sensitivity, kept, "pooled")
        assert (int(sizes[0]), int(sizes[1])) == (first, second)


@pytest.mark.parametrize("teacher", [network(), network(bias=False), Residual().double()])
def test_the_teachers_weights_are_read_off_exactly(teacher: nn.Module) -> None:
    inputs = 4 if isinstance(teacher, Residual) else 9
    u = batches(20, inputs=inputs)[0][0]
    model = implicit_form(state_recorder(teacher, u))
    torch.testing.assert_close(model(u), teacher(u), rtol=1e-12, atol=1e-12)


def test_a_convolution_is_read_off_too() -> None:
    teacher = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)
    ).double()
    u = torch.randn(5, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = implicit_form(state_recorder(teacher, u))
    torch.testing.assert_close(model(u), teacher(u), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("loss", ["mse", "kl"])
def test_sensitivities_are_the_curvature_of_the_loss(loss: str) -> None:
    """Against Jacobians of what follows each layer and the Hessian of the divergence."""
    teacher, loader = network(), batches(50)
    u = torch.cat([inputs for inputs, _ in loader])
    states, outputs = output_sensitivity(implicit_form(state_recorder(teacher, u)), loader, loss)
    y = teacher(u).detach()

    def divergence(changed: Tensor, own: Tensor) -> Tensor:
        p = own.softmax(dim=0)
        return (p * (p.log() - changed.log_softmax(dim=0))).sum()

    F = torch.eye(y.shape[1], dtype=y.dtype).expand(len(y), -1, -1)
    if loss == "kl":
        hessian = torch.autograd.functional.hessian
        F = torch.stack([hessian(lambda c, own=own: divergence(c, own), own) for own in y])
    expected = []
    for cut in (3, 1):  # last hidden layer first, as the states stand
        with torch.no_grad():
            z = teacher[:cut](u)
        jacobian = torch.stack(
            [torch.autograd.functional.jacobian(teacher[cut:], each[None])[0, :, 0] for each in z]
        )
        expected.append(torch.einsum("mji,mjk,mki->mi", jacobian, F, jacobian).mean(dim=0))
    torch.testing.assert_close(states, torch.cat(expected), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(outputs, F.diagonal(dim1=1, dim2=2).mean(dim=0), rtol=1e-9, atol=0)


def test_layers_use_what_the_teachers_layers_use() -> None:
    teacher = Residual().double()
    recorder = state_recorder(teacher, batches(20, inputs=4)[0][0])
    form = implicit_form(recorder)
    own = feedforward_layers(recorder, form, skip_connections=False)
    every = feedforward_layers(recorder, form, skip_connections=True)
    # States: 3 of the second layer, 5 of the first; then 4 inputs and the constant.
    assert [layer.features.tolist() for layer in own] == [
        list(range(8, 13)),
        list(range(3, 13)),
        [0, 1, 2, 12],
    ]
    assert [len(layer.features) for layer in every] == [5, 10, 13]


def test_all_weights_kept_are_the_teacher() -> None:
    teacher, loader = network(), batches()
    sim = sparse(1.0)
    model = sim.train(model=teacher, dataloader=loader)
    u = batches(seed=9)[0][0]
    torch.testing.assert_close(model(u), teacher(u), rtol=1e-7, atol=1e-8)
    assert sim.report["nonzeros"] == sim.report["teacher_parameters"] == 155


@pytest.mark.parametrize("allocation", ["pooled", "per_layer", "uniform"])
@pytest.mark.parametrize("skip_connections", [False, True])
def test_as_many_weights_as_asked_for_are_kept(allocation: str, skip_connections: bool) -> None:
    sim = sparse(0.3, allocation=allocation, skip_connections=skip_connections)
    model = sim.train(model=network(), dataloader=batches())
    kept = sum(int((p != 0).sum()) for p in model.parameters())
    assert kept == sim.report["nonzeros"] == round(0.3 * 155)
    assert model.well_posedness == "triangular"
    for stage in ("ab", "cd"):
        part = sim.report[stage]
        assert isinstance(part, dict)
        assert part["status"] == "stationary"
        assert part["lower_bound"] <= part["objective"]


def test_a_layer_is_least_squares_on_the_states_that_the_sparse_layers_produce() -> None:
    teacher, loader = network(), batches()
    model = sparse(0.4).train(model=teacher, dataloader=loader, solver=SwapSolver())
    u = torch.cat([inputs for inputs, _ in loader])
    with torch.no_grad():
        states = model.equilibrium(u)
        targets, outputs = teacher[:3](u), teacher(u)
        assert model.state_bias is not None
        assert model.output_bias is not None
        for rows, weights, bias, wanted in (
            (slice(0, 6), model.A, model.state_bias[:6], targets),
            (slice(0, 3), model.C, model.output_bias, outputs),
        ):
            features = torch.cat([states, torch.ones(len(u), 1, dtype=torch.float64)], dim=1)
            fitted = torch.cat([weights[rows], bias[:, None]], dim=1)
            for row, w in enumerate(fitted):
                used = w.nonzero()[:, 0]
                best = torch.linalg.lstsq(features[:, used], wanted[:, row]).solution
                torch.testing.assert_close(w[used], best, rtol=1e-6, atol=1e-8)


def test_the_layered_forward_is_the_models() -> None:
    teacher, loader = network(), batches()
    sim = sparse(0.4)
    model = sim.train(model=teacher, dataloader=loader)
    recorder = state_recorder(teacher, loader[0][0])
    layers = feedforward_layers(recorder, implicit_form(recorder), skip_connections=False)
    u = batches(seed=5)[0][0]
    torch.testing.assert_close(LayeredModel(model, layers)(u), model(u), rtol=1e-12, atol=1e-12)


def test_refinement_nears_the_teacher_and_never_looks_at_labels() -> None:
    teacher, loader = network(), batches()
    sim = sparse(0.3, refine_epochs=5, refine_loss="mse")
    refined = sim.train(model=teacher, dataloader=loader)
    plain = sparse(0.3, refine_loss="mse").train(model=teacher, dataloader=loader)
    other = [(u, torch.zeros_like(labels)) for u, labels in loader]
    again = sparse(0.3, refine_epochs=5, refine_loss="mse").train(model=teacher, dataloader=other)
    refinement = sim.report["refinement"]
    assert isinstance(refinement, dict)
    assert refinement["after"] < refinement["before"]
    u = torch.cat([inputs for inputs, _ in loader])
    with torch.no_grad():
        error = {
            name: float((m(u) - teacher(u)).square().mean())
            for name, m in (("r", refined), ("p", plain))
        }
    assert error["r"] == pytest.approx(refinement["after"])
    assert error["p"] == pytest.approx(refinement["before"])
    for name, parameter in refined.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name))
        assert torch.equal(parameter != 0, plain.get_parameter(name) != 0)
    # What the report counts is what the model holds.
    assert sim.report["nonzeros"] == sum(int((p != 0).sum()) for p in refined.parameters())


def test_a_long_refinement_begins_with_more_weights_and_ends_nearer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    teacher, loader = network(), batches()
    fitted = {}
    for steps in (1, 10**9):  # how long a refinement must be to lose weights gradually
        monkeypatch.setattr("idl_cli.sim.fit.sparse.fit.GRADUAL_STEPS", steps)
        sim = sparse(0.1, refine_epochs=60, refine_loss="mse")
        model = sim.train(model=teacher, dataloader=loader)
        fitted[steps] = model, sim.report["refinement"]
        assert sim.report["nonzeros"] == sum(int((p != 0).sum()) for p in model.parameters())
        assert sim.report["nonzeros"] <= round(0.1 * 155)
    (gradual, report), (plain, plain_report) = fitted.values()
    assert isinstance(report, dict)
    assert isinstance(plain_report, dict)
    assert report["before"] == plain_report["before"]
    assert report["after"] < plain_report["after"]
    pairs = zip(gradual.parameters(), plain.parameters(), strict=True)
    assert any(not torch.equal(a != 0, b != 0) for a, b in pairs)
    u = torch.cat([inputs for inputs, _ in loader])
    with torch.no_grad():
        error = float((gradual(u) - teacher(u)).square().mean())
    assert error == pytest.approx(report["after"])


def test_where_losing_weights_gradually_fails_the_fit_itself_is_refined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("idl_cli.sim.fit.sparse.fit.GRADUAL_STEPS", 1)
    monkeypatch.setattr("idl_cli.sim.fit.sparse.fit.AMPLE", 1e-9)  # one weight to begin with
    gradual = sparse(0.1, refine_epochs=60, refine_loss="mse")
    found = gradual.train(model=network(), dataloader=batches())
    monkeypatch.setattr("idl_cli.sim.fit.sparse.fit.GRADUAL_ROW", 0)  # rows are of no such use
    plain = sparse(0.1, refine_epochs=60, refine_loss="mse")
    expected = plain.train(model=network(), dataloader=batches())
    report = gradual.report["refinement"]
    assert isinstance(report, dict)
    assert report == plain.report["refinement"]
    assert report["after"] < report["before"]
    for one, other in zip(found.parameters(), expected.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_largest_step_falls_with_the_weights_a_row() -> None:
    lengths = []
    for weights_a_row in (1, 100, 400):
        adam, values = Adam(steps=10, weights_a_row=weights_a_row), torch.zeros(1)
        moved = 0.0
        for _ in range(10):
            following = adam.step(values, torch.ones(1))
            moved, values = max(moved, float((values - following).abs())), following
        lengths.append(moved)
    few, hundred, many = lengths
    assert few == hundred == pytest.approx(3e-3)
    assert many == pytest.approx(few / 4)


def test_weights_go_by_their_size_and_the_mean_square_of_their_slopes() -> None:
    parameters = [torch.tensor([[1.0, 0.0], [-2.0, 3.0]]), torch.tensor([0.5])]
    kept, adam = KeptWeights.of(parameters), Adam(steps=10, weights_a_row=2)
    # w²E[g²]: 1·16, 4·1, 9·4 and 0.25·100.
    slopes = [torch.tensor([[4.0, 7.0], [-1.0, 2.0]]), torch.tensor([10.0])]
    values = kept.values()
    adam.step(values, kept.of_parameters(slopes))
    stay = adam.costliest(values, 2)
    assert stay.tolist() == [False, False, True, True]
    kept.keep(stay)
    adam.keep(stay)
    assert parameters[0].tolist() == [[0.0, 0.0], [0.0, 3.0]]
    assert not bool(torch.signbit(parameters[0]).any())  # a file would store negative zeros
    torch.testing.assert_close(kept.values(), torch.tensor([3.0, 0.5]))
    assert len(adam.step(kept.values(), kept.of_parameters(slopes))) == 2


def test_the_loss_of_classes_is_the_divergence_of_their_probabilities() -> None:
    sim = sparse(0.15, refine_epochs=10)
    sim.train(model=network(), dataloader=batches())
    refinement = sim.report["refinement"]
    assert isinstance(refinement, dict)
    assert refinement["loss"] == "kl"
    sim = sparse(0.15, refine_epochs=10)
    sim.train(model=network(), dataloader=[u for u, _ in batches()])
    refinement = sim.report["refinement"]
    assert isinstance(refinement, dict)
    assert refinement["loss"] == "mse"


def test_a_full_structure_keeps_the_norm_within_kappa() -> None:
    sim = SIM(nonzeros=0.5, kappa=0.5, refine_epochs=2, refine_loss="mse", dtype=torch.float64)
    model = sim.train(model=network(), dataloader=batches())
    assert model.inf_norm_A() <= 0.5
    assert sum(int((p != 0).sum()) for p in model.parameters()) <= round(0.5 * 155)
    assert model.well_posedness == "linf"
    teacher: ImplicitModel = model
    again = SIM(nonzeros=0.4, kappa=0.5, refine_epochs=0, dtype=torch.float64)
    assert again.train(model=teacher, dataloader=batches()).inf_norm_A() <= 0.5


def test_limits_of_one_recording_share_their_elimination() -> None:
    teacher, loader = network(), batches()
    sim, solver = sparse(0.6), BackwardEliminationSolver()
    recording = sim.record(model=teacher, dataloader=loader)
    first = sim.fit(recording, dataloader=loader, solver=solver)
    options = replace(sim.options, nonzeros=0.2)
    second = sim.fit(
        recording, dataloader=loader, solver=solver, options=options, starts=first.starts
    )
    alone = sim.fit(recording, dataloader=loader, solver=solver, options=options)
    plan = first.starts.ab.memory
    assert isinstance(plan, Plan)
    assert second.starts.ab.memory is plan
    for name, parameter in second.model.named_parameters():
        assert torch.equal(parameter, alone.model.get_parameter(name))


def test_requests_that_cannot_be_met_are_refused_or_warned_of() -> None:
    loader = batches()
    implicit = ImplicitModel(9, 3, 4).double()
    with pytest.raises(UnsupportedModelError, match="structure=full"):
        sparse(0.3).train(model=implicit, dataloader=loader)
    with pytest.warns(IgnoredOptionWarning, match="backward_elimination solves in its place"):
        sparse(0.3).train(model=network(), dataloader=loader, solver=ADMMSolver())
    with pytest.raises(ArgumentError, match="in \\(0, 1\\]"):
        SIM(nonzeros=1.5)
    with pytest.raises(ArgumentError, match="set nonzeros too"):
        SIM(structure="feedforward")
    with pytest.raises(ArgumentError, match="allocation='best' must be one of"):
        SIM(nonzeros=0.5, allocation="best")  # type: ignore[arg-type]
    named = sparse(0.3, states=["1"])
    with pytest.raises(UnsupportedModelError, match="matched approximately"):
        named.train(model=network(), dataloader=loader)


def _of_a_rank(group: Group) -> dict[str, Tensor]:
    sim = sparse(0.3, refine_epochs=5, refine_loss="mse", group=group)
    model = sim.train(model=network(), dataloader=batches())
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def test_two_processes_find_the_model_of_one() -> None:
    alone, (first, second) = _of_a_rank(Group.single()), run_ranks(2, _of_a_rank)
    for name, parameter in alone.items():
        assert torch.equal(first[name], second[name])
        assert torch.equal(first[name] != 0, parameter != 0)
        # Sums over samples in another order; Adam magnifies their rounding a little.
        torch.testing.assert_close(first[name], parameter, rtol=1e-6, atol=1e-8)


def test_a_single_weight_is_a_model_too() -> None:
    """One weight reaches no output through three layers: the refinement has nothing to move."""
    sim = sparse(0.001, refine_epochs=1, refine_loss="mse")
    with pytest.warns(ConvergenceWarning, match="layer-by-layer fit is kept"):
        model = sim.train(model=network(bias=False), dataloader=batches())
    # It stands in the output layer, on states that are all zero: it is not even used.
    assert sim.report["nonzeros"] == 0
    u = batches()[0][0]
    torch.testing.assert_close(model(u), torch.zeros(len(u), 3, dtype=torch.float64))


def test_rows_with_a_limit_are_judged_by_the_bound_on_supports() -> None:
    sim = SIM(nonzeros=0.5, refine_epochs=0, dtype=torch.float64)
    loader = batches()
    recording = sim.record(model=network(), dataloader=loader)
    found = sim.fit(recording, dataloader=loader, solver=BackwardEliminationSolver())
    solution = found.ab.solution
    rows = diagnose(solution, recording.row_layout, stage="ab")
    assert solution.status == "stationary"
    assert {row.status for row in rows} == {"stationary"}
    assert all(0 <= row.relative_gap < 1 for row in rows)
    bound = sum(row.objective * (1 - row.relative_gap) for row in rows)
    assert solution.lower_bound is not None
    assert bound == pytest.approx(float(solution.lower_bound.sum()), rel=1e-9)
