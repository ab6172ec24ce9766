"""SIM from Python: exact where it can be, honest where it cannot; the known faults of others."""

import copy
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from idl_cli.errors import (
    ArgumentError,
    ConvergenceWarning,
    IgnoredOptionWarning,
    NonFiniteError,
    ShapeError,
    UnsupportedModelError,
    WellPosednessWarning,
)
from idl_cli.models.implicit import ImplicitModel
from idl_cli.sim.fit.diagnosis import diagnose
from idl_cli.sim.sim import SIM
from idl_cli.sim.solvers import (
    ActiveSetSolver,
    ADMMSolver,
    BaseSolver,
    LeastSquareSolver,
    ProjectedGDLowRankSolver,
)
from idl_cli.sim.statistics.dense import SufficientStatistics

CONTRACT = {
    "solver",
    "samples",
    "teacher_test_accuracy",
    "agreement",
    "nonzero_fraction",
    "inf_norm_A",
    "state_fit",
    "seconds_states",
    "seconds_ab",
    "seconds_cd",
    "ab",
    "cd",
}
STAGE_CONTRACT = {
    "objective",
    "relative_gap",
    "worst_row_gap",
    "kkt_residual",
    "iterations",
    "status",
}


def _network(*, inplace: bool = False, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(inplace), nn.Linear(8, 5), nn.ReLU(inplace), nn.Linear(5, 3)
    )


def _data(count: int = 300, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _loader(inputs: Tensor, batch_size: int = 64) -> list[tuple[Tensor, Tensor]]:
    labels = inputs[:, :3].argmax(dim=1)
    return list(zip(inputs.split(batch_size), labels.split(batch_size), strict=True))


def test_a_vanishing_penalty_reproduces_a_rescaled_network() -> None:
    network = _network().double()
    inputs = _data(dtype=torch.float64)
    sim = SIM(lambda_z=0, lambda_y=0, dtype=torch.float64)
    model = sim.train(model=network, dataloader=_loader(inputs))
    fresh = _data(500, seed=2, dtype=torch.float64)
    assert sim.report["state_fit"] < 1e-6
    assert float(model.inf_norm_A()) <= 0.95
    # The equilibrium is solved to a relative residual of 1e-6, magnified by C.
    torch.testing.assert_close(model(fresh), network(fresh), rtol=0, atol=1e-4)
    figures = sim.evaluate(_loader(fresh))
    assert figures["agreement"] >= 0.999
    assert figures["accuracy"] == pytest.approx(figures["teacher_accuracy"], abs=1e-3)


def test_an_implicit_teacher_is_recovered() -> None:
    torch.manual_seed(0)
    teacher = ImplicitModel(6, 3, 5, kappa=0.6, forward={"tol": 1e-12}).double()
    with torch.no_grad():
        teacher.A.copy_(torch.randn(5, 5, dtype=torch.float64))
    teacher.constrain_()
    sim = SIM(kappa=0.7, lambda_z=0, lambda_y=0, dtype=torch.float64)
    model = sim.train(model=teacher, dataloader=_loader(_data(dtype=torch.float64)))
    # A KKT residual of 1e-6, divided by the smallest eigenvalue of G relative to its largest.
    torch.testing.assert_close(model.A, teacher.A, rtol=0, atol=1e-4)
    torch.testing.assert_close(model.B, teacher.B, rtol=0, atol=1e-4)
    fresh = _data(50, seed=3, dtype=torch.float64)
    torch.testing.assert_close(model(fresh), teacher(fresh), rtol=0, atol=1e-4)


def test_the_report_keeps_its_contract() -> None:
    sim = SIM(lambda_z=1e-3, lambda_y=1e-3)
    sim.train(model=_network(), dataloader=_loader(_data()))
    report = sim.report
    assert report.keys() >= CONTRACT
    for stage in ("ab", "cd"):
        assert report[stage].keys() >= STAGE_CONTRACT
        assert report[stage]["status"] == "optimal"
        assert report[stage]["relative_gap"] <= 1e-6
    assert report["samples"] == 300
    assert report["agreement"] is None
    sim.evaluate(_loader(_data(seed=5)))
    assert 0 < sim.report["agreement"] <= 1


@pytest.mark.filterwarnings("ignore::idl_cli.errors.PoorFitWarning")
def test_the_stored_model_obeys_kappa_where_the_budget_binds() -> None:
    network = _network()
    sim = SIM(kappa=0.3, lambda_z=1e-3, lambda_y=1e-3, rescale=False)
    model = sim.train(model=network, dataloader=_loader(_data()))
    norms = model.A.detach().double().abs().sum(dim=1)
    assert sim.report["ab"]["budget_bound_rows"] > 0
    assert float(norms.max()) <= 0.3
    assert float(norms.max()) > 0.3 - 1e-6
    assert model.kappa == 0.3
    assert model.A.dtype == torch.float32


def test_regenerated_states_fit_the_outputs_better() -> None:
    network, inputs = _network().requires_grad_(False), _data()
    errors = []
    for regenerate in (False, True):
        sim = SIM(lambda_z=3e-3, lambda_y=1e-6, regenerate_states=regenerate)
        model = sim.train(model=network, dataloader=_loader(inputs)).requires_grad_(False)
        assert sim.report["regenerated"] is regenerate
        errors.append(float((model(inputs) - network(inputs)).square().mean()))
    # Refitted C, D minimise this very error (up to a penalty of 1e-6 λ_max).
    assert errors[1] < errors[0]


@pytest.mark.filterwarnings("ignore::idl_cli.errors.PoorFitWarning")
@pytest.mark.parametrize(
    ("limits", "solver", "advice"),
    [
        ({"max_time": 1e-9}, ADMMSolver(), "max_time=1e-09 s ended it"),
        ({}, ADMMSolver(max_iter=1, polish_passes=0), "solver.max_iter or tol, or use active_set"),
        ({}, ActiveSetSolver(max_iter=1, warm_iterations=0, attempts=1), "solver.max_iter or tol$"),
    ],
)
def test_an_inexact_answer_says_what_to_do(
    limits: dict[str, float], solver: BaseSolver, advice: str
) -> None:
    sim = SIM(tol=1e-12, **limits)
    with pytest.warns(ConvergenceWarning) as said:
        sim.train(solver=solver, model=_network(), dataloader=_loader(_data()))
    assert any(re.search(advice, str(each.message)) for each in said)


def test_results_do_not_depend_on_the_batches() -> None:
    network, inputs = _network(), _data()
    objectives = []
    for batch_size in (7, 300):
        sim = SIM(lambda_z=1e-3, lambda_y=1e-3)
        sim.train(model=network, dataloader=_loader(inputs, batch_size))
        objectives.append(sim.report["ab"]["objective"])
    # float32 states differ in their last digits with the shape of the batch.
    assert objectives[0] == pytest.approx(objectives[1], rel=1e-5)


def test_in_place_activations_change_nothing() -> None:
    inputs = _data()
    models = [
        SIM(lambda_z=1e-3).train(model=_network(inplace=inplace), dataloader=_loader(inputs))
        for inplace in (False, True)
    ]
    assert torch.equal(models[0].A, models[1].A)
    assert torch.equal(models[0].C, models[1].C)


def test_evaluation_sees_what_the_loader_gives() -> None:
    """Transforms in the data set count at test time as in training; any data set will do."""

    class Doubled(TensorDataset):
        def __getitem__(self, index: int) -> tuple[Tensor, ...]:
            inputs, target = super().__getitem__(index)
            return 2 * inputs + 1, target

    inputs = _data()
    labels = inputs[:, 0].gt(0).long()
    network = _network()
    doubled = Doubled(inputs, labels)
    sim = SIM(lambda_z=0, lambda_y=0, activation_fn=torch.relu)
    sim.train(model=network, dataloader=DataLoader(doubled, batch_size=50))
    transformed = [(2 * inputs + 1, labels)]
    expected = sim.evaluate(transformed)
    found = sim.evaluate(DataLoader(Subset(doubled, range(300)), batch_size=77))
    assert found["accuracy"] == expected["accuracy"]
    assert found["teacher_accuracy"] == expected["teacher_accuracy"]
    assert found["agreement"] > 0.99


def test_a_regression_is_measured_as_one() -> None:
    network = _network()
    inputs = _data()
    loader = [(inputs, network(inputs).detach())]
    sim = SIM(lambda_z=1e-6, lambda_y=1e-6)
    sim.train(model=network, dataloader=loader)
    figures = sim.evaluate(loader)
    assert figures["r2"] > 0.99
    assert figures["teacher_r2"] == pytest.approx(1)
    assert "agreement" not in figures


def test_saved_statistics_give_the_same_model(tmp_path: Path) -> None:
    network, loader = _network(), _loader(_data())
    sim = SIM(lambda_z=1e-3, lambda_y=1e-3)
    solver = ADMMSolver()
    recording = sim.record(model=network, dataloader=loader)
    recording.raw.save(tmp_path / "states.safetensors")
    first = sim.fit(recording, dataloader=loader, solver=solver)

    loaded = SufficientStatistics.load(tmp_path / "states.safetensors")
    again = sim.record(model=network, dataloader=loader, statistics=loaded)
    second = sim.fit(again, dataloader=loader, solver=solver)

    assert torch.equal(first.model.A, second.model.A)
    assert torch.equal(first.model.C, second.model.C)
    with pytest.raises(ShapeError, match="they are of another teacher"):
        sim.record(
            model=nn.Sequential(*network[:2], nn.Linear(8, 3)), dataloader=loader, statistics=loaded
        )


def test_the_teacher_stays_as_it_was() -> None:
    network = _network()
    before = copy.deepcopy(network.state_dict())
    SIM().train(model=network, dataloader=_loader(_data()))
    assert network.training
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_the_result_is_trained_on_as_any_model() -> None:
    model = SIM(lambda_z=1e-3).train(model=_network(), dataloader=_loader(_data()))
    clone = ImplicitModel(**model.constructor_arguments())
    clone.load_state_dict(model.state_dict())
    inputs = _data()
    assert torch.equal(clone(inputs), model(inputs))
    clone(inputs).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in clone.parameters())


def test_fewer_samples_than_asked_for_and_more() -> None:
    sim = SIM(samples=100)
    sim.train(model=_network(), dataloader=_loader(_data()))
    assert sim.report["samples"] == 100


def test_states_that_cannot_be_rescaled_are_left_with_a_warning() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
    sim = SIM(lambda_z=1e-6, lambda_y=1e-6)
    with pytest.warns(IgnoredOptionWarning, match="tanh is not positively homogeneous"):
        sim.train(model=network, dataloader=_loader(_data()))
    assert sim.report["rescaled"] is False
    assert sim.report["state_fit"] < 1e-2


@pytest.mark.filterwarnings("ignore::idl_cli.errors.PoorFitWarning")
def test_named_states_are_matched_approximately() -> None:
    sim = SIM(states=["1"], rescale=False, lambda_z=1e-6, lambda_y=1e-6)
    model = sim.train(model=_network(), dataloader=_loader(_data()))
    assert model.hidden_dim == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kappa": 1.0}, r"kappa=1 must be in \(0, 1\)"),
        ({"lambda_z": -1.0, "tol": 0.0}, "lambda_z=-1 .*; tol=0 "),
        ({"lambda_scale": "log"}, "lambda_scale='log' must be one of absolute"),
        ({"samples": 0}, "samples=0"),
        ({"activation_fn": torch.sort}, "activation_fn=.* is no activation"),
        ({"activation_fn": "swoosh"}, "swoosh"),
    ],
)
def test_wrong_requests_are_told_before_any_work(
    arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        SIM(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["relu", torch.relu, nn.functional.relu, nn.ReLU()])
def test_an_activation_is_a_check(given: object) -> None:
    SIM(activation_fn=given).record(model=_network(), dataloader=_loader(_data()))  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"activation_fn is tanh, but the teacher's .* relu"):
        SIM(activation_fn="tanh").record(model=_network(), dataloader=_loader(_data()))


def test_an_activation_that_kappa_cannot_tame_is_refused() -> None:
    network = nn.Sequential(nn.Linear(6, 4), nn.SELU(), nn.Linear(4, 3))
    with pytest.raises(ArgumentError, match="kappa must be below"):
        SIM().train(model=network, dataloader=_loader(_data()))


def test_bad_data_are_told() -> None:
    network, inputs = _network(), _data()
    with pytest.raises(ShapeError, match=r"does not take inputs of shape \(4,\)"):
        SIM().train(model=network, dataloader=_loader(inputs[:, :4]))
    with pytest.raises(NonFiniteError, match="the inputs holds NaN"):
        SIM().train(model=network, dataloader=_loader(inputs * torch.inf))
    with pytest.raises(UnsupportedModelError, match="no activation modules"):
        SIM().train(model=nn.Linear(6, 3), dataloader=_loader(inputs))
    with pytest.raises(ArgumentError, match="no samples"):
        SIM().train(model=network, dataloader=[])
    with pytest.raises(ArgumentError, match="gives its batches once"):
        SIM().train(model=network, dataloader=iter(_loader(inputs)))
    with pytest.raises(ArgumentError, match="nothing has been trained"):
        _ = SIM().model


def test_dead_states_are_diagnosed() -> None:
    network = _network()
    with torch.no_grad():
        network[2].weight[1], network[2].bias[1] = 0, 0
    sim = SIM(lambda_z=1e-3, lambda_y=1e-3)
    loader = _loader(_data())
    recording = sim.record(model=network, dataloader=loader)
    found = sim.fit(recording, dataloader=loader, solver=ADMMSolver())
    solution = found.ab.solution
    rows = diagnose(solution, recording.recorder.layout, stage="ab")
    assert [row.row for row in rows if row.dead] == [1]
    assert rows[1].block == "3"
    assert rows[1].nonzeros == 0
    assert rows[5].block == "1"
    assert all(row.relative_gap is not None and row.relative_gap <= 1e-6 for row in rows)


def test_a_loader_that_draws_anew_is_followed() -> None:
    """With augmentation the second pass sees other inputs than the first; C, D are fitted to it."""

    class Redrawn:
        def __init__(self) -> None:
            self.passes = 0

        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            self.passes += 1
            return iter(_loader(_data(seed=self.passes)))

    loader = Redrawn()
    sim = SIM(lambda_z=1e-6, lambda_y=1e-6)
    model = sim.train(model=_network(), dataloader=loader)
    network = _network().requires_grad_(False)
    fresh = _data(seed=100)
    error = (model.requires_grad_(False)(fresh) - network(fresh)).square().mean()
    assert float(error) < 1e-3 * float(network(fresh).var())
    assert loader.passes == 4  # a look, the states, the equilibria, and these from scratch


@pytest.mark.filterwarnings("ignore::idl_cli.errors.PoorFitWarning")
def test_a_low_rank_answer_keeps_its_factors() -> None:
    sim = SIM(kappa=0.5, lambda_z=1e-2, lambda_y=1e-2, rescale=False)
    model = sim.train(
        model=_network(),
        dataloader=_loader(_data()),
        solver=ProjectedGDLowRankSolver(rank=2),
    )
    assert model.rank == 2
    assert torch.linalg.matrix_rank(model.A.detach(), rtol=1e-4) == 2
    assert model.inf_norm_A() <= 0.5
    assert sim.report["ab"]["status"] == "stationary"
    solved = sim._fit.ab.solution.weights[:, :13]
    # The product of factors that are stored in float32.
    torch.testing.assert_close(model.A.detach().double(), solved, rtol=0, atol=1e-6)
    # What is stored is L and R, not their product.
    kept = [each.detach() for each in model.parameters()]
    share = sum(int((each != 0).sum()) for each in kept) / sum(each.numel() for each in kept)
    assert sim.report["nonzero_fraction"] == pytest.approx(share, rel=1e-12)
    row_norms = (model.L.detach().double() @ model.R.detach().double().T).abs().sum(dim=1)
    assert sim.report["inf_norm_A"] == pytest.approx(float(row_norms.max()), rel=1e-12)
    assert model.kappa == 0.5


def test_what_least_squares_ignores_is_said_and_tested_on_the_data() -> None:
    sim = SIM(kappa=0.3, rescale=False)
    with pytest.warns(IgnoredOptionWarning, match="ignores"), pytest.warns(WellPosednessWarning):
        model = sim.train(model=_network(), dataloader=_loader(_data()), solver=LeastSquareSolver())
    report = sim.report
    assert report["ab"]["status"] == "unconstrained"
    assert report["inf_norm_A"] == pytest.approx(model.inf_norm_A())
    assert model.inf_norm_A() >= 1
    # The network's own weights, strictly triangular: not a contraction, yet every solve ends.
    assert report["unconverged"] == 0
    assert model.well_posedness == "none"


@pytest.mark.parametrize("scale", ["absolute", "per_sample", "relative"])
def test_penalties_have_the_unit_asked_for(scale: str) -> None:
    network, loader = _network(), _loader(_data())
    sim = SIM(lambda_z=1e-3, lambda_scale=scale)  # type: ignore[arg-type]
    recording = sim.record(model=network, dataloader=loader)
    found = sim.fit(recording, dataloader=loader, solver=ADMMSolver())
    limits = recording.statistics.cross["Z"].abs().amax(dim=1)
    one = torch.ones_like(limits)
    unit = {"absolute": one, "per_sample": 300.0 * one, "relative": limits}[scale]
    torch.testing.assert_close(found.ab.problem.penalties, 1e-3 * unit, rtol=1e-12, atol=0)
    assert found.ab.penalty == pytest.approx(1e-3 * float(unit.max()), rel=1e-12)


@pytest.mark.parametrize("model_dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("teacher_dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_model_and_teacher_are_each_measured_in_their_own_dtype(
    model_dtype: torch.dtype, teacher_dtype: torch.dtype
) -> None:
    teacher, inputs = _network().to(teacher_dtype), _data()
    classes = (inputs[:, 0] > 0).long()
    sim = SIM(dtype=model_dtype)
    sim.train(model=teacher, dataloader=[(inputs.to(teacher_dtype), classes)])
    for given in (inputs, inputs.double(), inputs.bfloat16(), inputs.numpy()):
        targets = classes.numpy() if not isinstance(given, Tensor) else classes
        assert sim.evaluate([(given, targets)])["agreement"] > 0.97
    with pytest.raises(ArgumentError, match=r"\(inputs, targets\)"):
        sim.evaluate([inputs])
