"""``structure=convolution``: kernels from a chain of convolutions, exact, certified, sparse."""

from __future__ import annotations

import copy
from collections.abc import Callable

import cvxpy as cp
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from idl_cli.distributed.group import Group
from idl_cli.errors import ArgumentError, IgnoredOptionWarning, UnsupportedModelError
from idl_cli.models.convolutional.feedforward_conv import FeedforwardConv
from idl_cli.sim.fit.callbacks import SimCallbacks
from idl_cli.sim.fit.path import fit_path
from idl_cli.sim.fit.sparse.sensitivity import output_sensitivity
from idl_cli.sim.sim import SIM
from idl_cli.sim.solvers import ActiveSetSolver, LeastSquareSolver
from idl_cli.sim.states.convolution_recorder import ConvolutionRecorder
from idl_cli.sim.states.convolution_recording import ConvolutionRecording
from idl_cli.sim.states.maps_so_far import MapsSoFar
from idl_cli.sim.states.recording import DataPass
from idl_cli.sim.statistics.patches import TARGET, patches
from tests.sim.ranks import run_ranks

Loader = list[tuple[Tensor, Tensor]]


def network(*, bias: bool = True, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Two convolutions and two fully connected layers for 7 × 7 pixels."""
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2, padding=1, bias=bias),
        nn.ReLU(),
        nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=bias),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 6, bias=bias),
        nn.ReLU(),
        nn.Linear(6, 3, bias=bias),
    ).to(dtype)


def batches(samples: int = 200, *, dtype: torch.dtype = torch.float64) -> Loader:
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(samples, 1, 7, 7, generator=generator, dtype=dtype)
    labels = torch.randint(0, 3, (samples,), generator=generator)
    return list(zip(u.split(64), labels.split(64), strict=True))


def convolution(**options: object) -> SIM:
    settings = {"structure": "convolution", "dtype": torch.float64, **options}
    return SIM(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("regenerate", [True, False])
def test_without_a_penalty_the_teacher_comes_out(bias: bool, regenerate: bool) -> None:
    teacher, loader = network(bias=bias), batches()
    sim = convolution(lambda_z=0.0, lambda_y=0.0, regenerate_states=regenerate)
    model = sim.train(model=teacher, dataloader=loader, solver=LeastSquareSolver())
    assert isinstance(model, FeedforwardConv)
    assert sum(p.numel() for p in model.parameters()) == sum(
        p.numel() for p in teacher.parameters()
    )
    inputs = batches(400)[-1][0]
    torch.testing.assert_close(model(inputs), teacher(inputs), rtol=0, atol=1e-10)
    assert sim.report["ab"]["status"] in ("optimal", "at_precision")  # type: ignore[index]


def test_in_single_precision_too() -> None:
    teacher, loader = network(dtype=torch.float32), batches(dtype=torch.float32)
    sim = convolution(lambda_z=0.0, lambda_y=0.0, dtype=torch.float32)
    model = sim.train(model=teacher, dataloader=loader, solver=LeastSquareSolver())
    # float32 states have seven digits, of which the four layers pass on about six.
    torch.testing.assert_close(model(loader[0][0]), teacher(loader[0][0]), rtol=0, atol=2e-5)


@pytest.mark.filterwarnings("ignore::idl_cli.errors.PoorFitWarning")
def test_the_optimum_and_its_certificate_are_those_of_cvxpy() -> None:
    teacher, loader = network(), batches()
    penalty = 4.0
    sim = convolution(
        lambda_z=penalty,
        lambda_y=penalty,
        lambda_scale="absolute",
        regenerate_states=False,
        tol=1e-9,
    )
    model = sim.train(model=teacher, dataloader=loader)
    inputs = torch.cat([u for u, _ in loader])
    form = ConvolutionRecorder(teacher, inputs).form
    objectives, zeros = [], 0
    for number, layers in enumerate(form.sums):
        maps = form.entering(inputs, number).reads
        targets = form.total(inputs, number).detach()
        S = patches(layers, maps).detach().numpy()
        T = targets.reshape(len(inputs), targets.shape[1], -1).transpose(1, 2).flatten(0, 1)
        W = cp.Variable((T.shape[1], S.shape[1]))
        objective = 0.5 * cp.sum_squares(S @ W.T - T.numpy()) + penalty * cp.sum(cp.abs(W))
        objectives.append(
            cp.Problem(cp.Minimize(objective)).solve(
                solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10
            )
        )
        made = model.weights[number]
        ours = torch.cat([made.weight.flatten(1), made.bias[:, None]], dim=1).detach().numpy()
        np.testing.assert_allclose(ours, W.value, atol=1e-4)
        zeros += int((ours == 0).sum())
    assert zeros > 0
    for stage, expected in (("ab", sum(objectives[:-1])), ("cd", objectives[-1])):
        found = sim.report[stage]
        assert found["status"] == "optimal"  # type: ignore[index]
        assert found["objective"] == pytest.approx(expected, rel=1e-7)  # type: ignore[index]


def test_a_share_of_the_kernels_is_kept_and_refined() -> None:
    teacher, loader = network(), batches()
    parameters = sum(p.numel() for p in teacher.parameters())
    sim = convolution(nonzeros=0.3, refine_epochs=20)
    model = sim.train(model=teacher, dataloader=loader)
    kept = sum(int((p != 0).sum()) for p in model.parameters())
    assert kept == sim.report["nonzeros"] <= round(0.3 * parameters)
    assert kept >= round(0.3 * parameters) - 2  # a refined weight may end at zero
    refinement = sim.report["refinement"]
    assert refinement["after"] < refinement["before"]  # type: ignore[index]
    assert (
        sim.report["ab"]["nonzero_fraction"]
        == pytest.approx(  # type: ignore[index]
            sum(int((p != 0).sum()) for w in model.weights[:-1] for p in w.parameters())
            / sum(p.numel() for w in model.weights[:-1] for p in w.parameters())
        )
    )


def test_layers_are_fitted_on_the_states_of_those_before() -> None:
    """On its own states the last layer leaves less error than one fitted on the teacher's."""
    teacher, loader = network(), batches()
    outputs = torch.cat([teacher(u) for u, _ in loader]).detach()

    def error(regenerate: bool) -> float:
        sim = convolution(nonzeros=0.4, refine_epochs=0, regenerate_states=regenerate)
        model = sim.train(model=teacher, dataloader=loader)
        found = torch.cat([model(u) for u, _ in loader]).detach()
        return float((found - outputs).square().sum())

    assert error(True) < error(False)


def test_a_path_is_certified_and_begins_where_it_stood() -> None:
    teacher, loader = network(), batches()
    sim = convolution()
    recording = sim.record(model=teacher, dataloader=loader)
    fits = list(
        fit_path(
            sim,
            recording,
            [0.3, 0.03, 0.003],
            dataloader=loader,
            solver=ActiveSetSolver(),
            options=sim.options,
            callbacks=SimCallbacks(),
        )
    )
    assert [fit.ab.solution.status for fit in fits] == ["optimal"] * 3
    sizes = [fit.nonzeros for fit in fits]
    assert sizes == sorted(sizes)
    assert fits[-1].nonzeros > fits[0].nonzeros


def test_outputs_feel_a_channel_as_the_unrolled_model_says() -> None:
    teacher, loader = network(), batches()
    form = ConvolutionRecorder(teacher, loader[0][0]).form
    for loss in ("kl", "mse"):
        ours = output_sensitivity(form, loader, loss)
        unrolled = output_sensitivity(form.dense_form(), loader, loss)
        for found, expected in zip(ours, unrolled, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_a_solver_without_a_penalty_says_so() -> None:
    sim = convolution()
    with pytest.warns(IgnoredOptionWarning, match="ignores the l1 penalty"):
        sim.train(model=network(), dataloader=batches(), solver=LeastSquareSolver())
    assert sim.report["ab"]["status"] == "unconstrained"  # type: ignore[index]


def _grouped() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(100, 3),
    )  # fmt: skip


def _shuffled() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.PixelShuffle(2), nn.Flatten(),
        nn.Linear(196, 3),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "said"), [(_grouped, "2 groups"), (_shuffled, r"pixel_shuffle in module '2'")]
)
def test_other_networks_are_refused_by_name(make: Callable[[], nn.Module], said: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(
        UnsupportedModelError, match=f"structure=convolution: .*{said}.*feedforward"
    ):
        convolution().train(model=make(), dataloader=batches(dtype=torch.float32))


class Residual(nn.Module):
    """Two blocks, one with a shortcut as it is and one with weights, normalised, pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(3)
        self.inner = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.inner_norm = nn.BatchNorm2d(4)
        self.outer = nn.Conv2d(4, 3, 3, padding=1)
        self.down = nn.Conv2d(3, 5, 3, stride=2, padding=1)
        self.past = nn.Conv2d(3, 5, 1, stride=2, bias=False)
        self.past_norm = nn.BatchNorm2d(5)
        self.head = nn.Linear(5, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        first = functional.max_pool2d(self.first_norm(self.first(inputs)), 2, ceil_mode=True).relu()
        inner = self.inner_norm(self.inner(first)).relu()
        block = (self.outer(inner) + first).relu()
        block = (self.down(block) + self.past_norm(self.past(block))).relu()
        outputs: Tensor = self.head(functional.adaptive_avg_pool2d(block, 1).flatten(1))
        return outputs


def residual() -> Residual:
    torch.manual_seed(7)
    teacher = Residual().double()
    for module in teacher.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    with torch.no_grad():
        for inputs, _ in batches():
            teacher(inputs)
    return teacher.eval()


@pytest.mark.parametrize("regenerate", [True, False])
def test_a_normalised_residual_teacher_comes_out_without_a_penalty(regenerate: bool) -> None:
    teacher, loader = residual(), batches()
    sim = convolution(lambda_z=0.0, lambda_y=0.0, regenerate_states=regenerate)
    model = sim.train(model=teacher, dataloader=loader, solver=LeastSquareSolver())
    inputs = batches(400)[-1][0]
    torch.testing.assert_close(model(inputs), teacher(inputs), rtol=0, atol=1e-9)
    # A root of a difference of sums of squares: half of the digits.
    assert sim.report["state_fit"] < 1e-7  # type: ignore[operator]
    assert not model.dense_form().effective_weights().D.any()


def test_all_weights_kept_are_the_teacher_and_few_are_still_near_it() -> None:
    teacher, loader = residual(), batches()
    outputs = torch.cat([teacher(u) for u, _ in loader]).detach()

    def error(share: float, **options: object) -> float:
        sim = convolution(nonzeros=share, **{"refine_epochs": 0, **options})
        model = sim.train(model=teacher, dataloader=loader)
        assert sim.report["nonzeros"] <= round(share * sim.report["teacher_parameters"])  # type: ignore[operator]
        found = torch.cat([model(u) for u, _ in loader]).detach()
        return float((found - outputs).square().mean() / outputs.var())

    assert error(1.0) < 1e-16
    assert error(0.5) < 0.1
    assert error(0.5) < error(0.25)
    assert error(0.5, regenerate_states=False) > error(0.5)
    assert error(0.25, refine_epochs=20) < error(0.25)


def test_a_shortcut_is_taken_from_the_target_as_the_sparse_model_has_it() -> None:
    """The block's last layer then makes up for the errors of the maps that pass it by."""
    teacher, loader = residual(), batches()
    sim = convolution(nonzeros=0.5, refine_epochs=0)
    recording = sim.record(model=teacher, dataloader=loader)
    assert isinstance(recording, ConvolutionRecording)
    form = recording.teacher
    made = copy.deepcopy(form)
    with torch.no_grad():
        made.weights[0].weight.mul_(0.7)
    data = DataPass(loader, None, lambda _: None, Group.single())
    kept = MapsSoFar(recording, made, data)
    for number in (0, 1, 2):
        statistics = kept.statistics(number)
        again = MapsSoFar(recording, made, data, room=0).statistics(number)
        torch.testing.assert_close(statistics.gram, again.gram, rtol=0, atol=0)
        torch.testing.assert_close(statistics.cross, again.cross, rtol=0, atol=0)
    inputs = torch.cat([u for u, _ in loader])
    entering, total = made.entering(inputs, 2), form.total(inputs, 2)
    assert entering.added is not None
    features = patches(form.sums[2], entering.reads)
    targets = (total - entering.added).flatten(2).transpose(1, 2).flatten(0, 1)
    gram, cross, _ = statistics.raw(TARGET)
    torch.testing.assert_close(gram, features.T @ features, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(cross, targets.T @ features, rtol=1e-9, atol=1e-9)


def test_options_that_do_not_go_with_it_are_refused_or_said() -> None:
    with pytest.raises(ArgumentError, match="each layer reads what the teacher"):
        convolution(skip_connections=True)
    with pytest.raises(ArgumentError, match="needs the states of all"):
        convolution(states=["1"])
    with pytest.raises(ArgumentError, match="set nonzeros too"):
        convolution(refine_epochs=3)
    with pytest.warns(IgnoredOptionWarning, match=r"kappa=0\.5: has no effect with structure"):
        convolution(kappa=0.5).warn_ignored(ActiveSetSolver())


def _rank(group: object) -> list[Tensor]:
    sim = convolution(nonzeros=0.4, refine_epochs=2, group=group)
    model = sim.train(model=network(), dataloader=batches())
    return [p.detach() for p in model.parameters()]


def test_two_processes_find_the_same_model() -> None:
    alone = _rank(None)
    for each in run_ranks(2, _rank):
        for found, expected in zip(each, alone, strict=True):
            assert torch.equal(found == 0, expected == 0)
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
