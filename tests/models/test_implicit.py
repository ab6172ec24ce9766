import copy
import math
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from idl_cli.equilibrium.constraints import row_l1_norms
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings
from idl_cli.errors import ArgumentError, ConvergenceWarning, ShapeError, WellPosednessWarning
from idl_cli.models.implicit import ImplicitModel

TIGHT = {
    "forward": {"tol": 1e-13, "max_iter": 5000},
    "backward": {"tol": 1e-13, "max_iter": 5000},
}
VARIANTS = {
    "full": {},
    "low rank": {"rank": 3},
    "triangular": {"well_posedness": "triangular"},
    "without D and bias": {"no_D": True, "bias": False},
    "anderson": {"forward": {"method": "anderson"}, "backward": {"method": "anderson"}},
}
ALL_VARIANTS = pytest.mark.parametrize("variant", VARIANTS)


def make(variant: str = "full", **changes: object) -> ImplicitModel:
    torch.manual_seed(0)
    arguments = {"input_dim": 6, "output_dim": 4, "hidden_dim": 10, **VARIANTS[variant], **changes}
    return ImplicitModel(**arguments)  # type: ignore[arg-type]


def inputs(samples: int = 5, size: int = 6, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(samples, size, generator=generator, dtype=dtype)


def matrix_of(model: ImplicitModel) -> Tensor:
    return model.effective_weights().A


@ALL_VARIANTS
def test_prediction_is_that_of_the_equations(variant: str) -> None:
    model = make(variant).double()
    u = inputs(dtype=torch.float64)
    weights = model.effective_weights()
    x = torch.zeros(5, 10, dtype=torch.float64)
    for _ in range(500):
        x = torch.relu(x @ weights.A.t() + u @ weights.B.t() + weights.state_bias)
    expected = x @ weights.C.t() + u @ weights.D.t() + weights.output_bias
    # Residuals up to 1e-5 (1 + ‖x‖∞), over 1 − κ, through C.
    torch.testing.assert_close(model(u), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(model.equilibrium(u), x, rtol=0, atol=1e-4)
    assert model.solve_statistics.summary()["unconverged_share"] == 0


@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
def test_a_strictly_triangular_model_is_the_network_it_encodes(activation: str) -> None:
    torch.manual_seed(2)
    module = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}[activation]
    network = nn.Sequential(
        nn.Linear(6, 9), module(), nn.Linear(9, 7), module(), nn.Linear(7, 8), module(),
        nn.Linear(8, 4),
    ).double()  # fmt: skip
    first, second, third, last = (network[i] for i in (0, 2, 4, 6))
    # x = (x_3, x_2, x_1), last layer first.
    a, b = torch.zeros(24, 24).double(), torch.zeros(24, 6).double()
    a[:8, 8:15], a[8:15, 15:], b[15:] = third.weight, second.weight, first.weight
    c = torch.zeros(4, 24).double()
    c[:, :8] = last.weight
    model = ImplicitModel.from_weights(
        a.detach(),
        b.detach(),
        c.detach(),
        state_bias=torch.cat([third.bias, second.bias, first.bias]).detach(),
        output_bias=last.bias.detach(),
        activation=activation,
        well_posedness="triangular",
    )
    u = inputs(50, dtype=torch.float64)
    torch.testing.assert_close(model(u), network(u), rtol=1e-12, atol=1e-12)
    model(u).square().sum().backward()
    network(u).square().sum().backward()
    torch.testing.assert_close(model.A.grad[8:15, 15:], second.weight.grad, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(model.B.grad[15:], first.weight.grad, rtol=1e-11, atol=1e-11)


@ALL_VARIANTS
@pytest.mark.parametrize("stretch", [1.0, 20.0])
def test_gradcheck_of_the_whole_model(variant: str, stretch: float) -> None:
    model = make(variant, **TIGHT).double()
    with torch.no_grad():
        for factor in model.operator().factors:
            assert float(row_l1_norms(factor).min()) >= 0
        for name in ("A", "L", "R"):
            if name in dict(model.named_parameters()):
                getattr(model, name).mul_(stretch)
    beyond = model.well_posedness == "linf" and stretch > 1
    unconstrained = model.L if model.rank is not None else model.A
    radius = model.kappa if model.rank is None else math.sqrt(model.kappa)
    assert bool((row_l1_norms(unconstrained) > radius).all()) == beyond or variant == "triangular"
    parameters = dict(model.named_parameters())
    u = inputs(3, dtype=torch.float64).requires_grad_()

    def predict(u: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(model, dict(zip(parameters, values, strict=True)), (u,))

    assert torch.autograd.gradcheck(predict, (u, *parameters.values()))


@given(
    scale=st.floats(1e-3, 1e3),
    kappa=st.floats(0.05, 0.99),
    rank=st.sampled_from([None, 1, 4]),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=60)
def test_constrained_parameters_obey_kappa_as_stored(
    scale: float, kappa: float, rank: int | None, seed: int
) -> None:
    model = ImplicitModel(3, 2, 8, rank=rank, kappa=kappa)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name in ("A",) if rank is None else ("L", "R"):
            parameter = getattr(model, name)
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    before = matrix_of(model)
    model.constrain_()
    assert model.inf_norm_A() <= kappa
    assert float(row_l1_norms(matrix_of(model).double()).max()) <= kappa * (1 + 1e-6)
    # What forward used is what constrain_ stores, to float32 rounding.
    torch.testing.assert_close(matrix_of(model), before, rtol=0, atol=2e-6 * kappa)
    stored = [parameter.clone() for parameter in model.parameters()]
    model.constrain_()
    assert all(map(torch.equal, model.parameters(), stored))


def test_low_rank_reaches_kappa_and_not_its_square() -> None:
    model = ImplicitModel(3, 2, 8, rank=1, kappa=0.64)
    with torch.no_grad():
        model.L.fill_(100.0)
        model.R.zero_()
        model.R[3] = 100.0
    model.constrain_()
    assert model.inf_norm_A() == pytest.approx(0.64, rel=1e-6)


def test_training_steps_keep_the_constraint_and_lower_the_loss() -> None:
    model = make(kappa=0.5)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    u = inputs(64)
    target = torch.sin(3 * u[:, :4]) + u[:, 1:5]
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(u), target)
        loss.backward()
        optimizer.step()
        model.constrain_()
        losses.append(float(loss.detach()))
        assert model.inf_norm_A() <= 0.5
    assert losses[-1] < 0.2 * losses[0]
    assert model.inf_norm_A() > 0.499, "the bound must have become active for this test to say much"


def test_two_models_with_different_settings_do_not_touch_each_other() -> None:
    u = inputs()
    first = make(kappa=0.3, forward={"tol": 1e-3})
    with torch.no_grad():
        first.A.mul_(10)
    alone = first(u)
    second = make(kappa=0.9, activation="tanh", forward={"tol": 1e-6})
    with torch.no_grad():
        second.A.mul_(10)
    second(u).sum().backward()
    assert torch.equal(first(u), alone)
    assert first.inf_norm_A() == pytest.approx(0.3, rel=1e-6)
    assert second.inf_norm_A() == pytest.approx(0.9, rel=1e-6)
    assert first.A.grad is None
    assert first.forward_settings.tol == 1e-3


def test_trailing_dimensions_are_flattened() -> None:
    model = ImplicitModel(12, 2, 5)
    images = torch.randn(4, 3, 2, 2)
    assert torch.equal(model(images), model(images.flatten(1)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(6), r"shape \(6,\); expected \(samples, \.\.\.\) with 6 values"),
        (torch.zeros(2, 7), r"shape \(2, 7\)"),
        (torch.zeros(2, 3, 3), r"shape \(2, 3, 3\)"),
        (torch.zeros(2, 6).double(), r"float64, the model torch.float32"),
        (torch.zeros(2, 6, dtype=torch.int64), r"int64"),
    ],
)
def test_inputs_of_the_wrong_shape_or_dtype_are_refused(wrong: Tensor, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        make()(wrong)


def test_an_empty_batch_gives_an_empty_prediction() -> None:
    assert make()(torch.zeros(0, 6)).shape == (0, 4)


@ALL_VARIANTS
def test_copies_are_equal_and_independent(variant: str) -> None:
    model = make(variant)
    u = inputs()
    model(u).sum().backward()
    copied = copy.deepcopy(model)
    unpickled = pickle.loads(pickle.dumps(model))
    for other in (copied, unpickled):
        assert torch.equal(other(u), model(u))
    with torch.no_grad():
        copied.B.zero_()
    copied.solve_statistics.reset()
    assert bool(model.B.any())
    assert model.solve_statistics.summary() != {}


@ALL_VARIANTS
def test_state_dict_and_constructor_arguments_remake_the_model(variant: str) -> None:
    model = make(variant)
    other = ImplicitModel(**model.constructor_arguments())  # type: ignore[arg-type]
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(inputs()), model(inputs()))
    assert other.constructor_arguments() == model.constructor_arguments()
    names = {"L", "R"} if variant == "low rank" else {"A"}
    names |= {"B", "C"}
    if variant != "without D and bias":
        names |= {"D", "state_bias", "output_bias"}
    assert set(model.state_dict()) == names


@ALL_VARIANTS
def test_float64_agrees_with_float32(variant: str) -> None:
    model = make(variant)
    double = copy.deepcopy(model).double()
    prediction = double(inputs().double())
    assert prediction.dtype == torch.float64
    # Both are within the residual 1e-5 of the equilibrium, over 1 − κ at worst.
    torch.testing.assert_close(model(inputs()).double(), prediction, rtol=0, atol=1e-4)


def test_under_autocast_the_equilibrium_stays_in_float32() -> None:
    model = make()
    u = inputs()
    reference = model.equilibrium(u)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = model.equilibrium(u)
        prediction = model(u)
        # Backward inside the region too, as a user may well do.
        prediction.float().square().sum().backward()
    assert x.dtype == torch.float32
    assert torch.equal(x, reference)
    assert prediction.dtype == torch.bfloat16
    assert model.A.grad.dtype == torch.float32
    assert model.solve_statistics.summary()["backward_unconverged_share"] == 0


def test_under_autocast_a_bfloat16_input_is_taken() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert make().equilibrium(inputs().bfloat16()).dtype == torch.float32


BACKENDS = [
    "aot_eager",
    pytest.param(
        "inductor",
        marks=[
            pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler"),
            pytest.mark.slow,
        ],
    ),
]


@pytest.mark.parametrize("backend", BACKENDS)
# torch's compiler warns of its own doings: deprecated parts of torch, and a look at .grad of the
# states that the eager solve hands back to the compiled part.
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:torch",
    "ignore::FutureWarning:torch",
    "ignore:The .grad attribute:UserWarning",
)
def test_a_compiled_model_predicts_and_learns_as_the_eager_one(backend: str) -> None:
    eager, u = make(), inputs()
    model = copy.deepcopy(eager)
    compiled = torch.compile(model, backend=backend)
    # The compiler may sum in another order.
    torch.testing.assert_close(compiled(u), eager(u), rtol=1e-5, atol=1e-6)
    compiled(u).square().sum().backward()
    eager(u).square().sum().backward()
    for mine, reference in zip(model.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, reference.grad, rtol=1e-4, atol=1e-5)
    assert model.solve_statistics.summary()["unconverged_share"] == 0


@pytest.fixture
def one_process_group(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process_group")
@ALL_VARIANTS
def test_a_data_parallel_wrapper_gives_the_same_gradients(variant: str) -> None:
    model, u = make(variant), inputs()
    wrapped = DistributedDataParallel(copy.deepcopy(model))
    wrapped(u).square().sum().backward()
    model(u).square().sum().backward()
    for mine, reference in zip(wrapped.module.parameters(), model.parameters(), strict=True):
        assert torch.equal(mine.grad, reference.grad)
    wrapped.module.constrain_()


class LargestTensor(TorchDispatchMode):
    """Remembers the largest number of elements any operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def test_a_low_rank_model_never_forms_its_matrix() -> None:
    size = 600
    model = ImplicitModel(4, 2, size, rank=2)
    with LargestTensor() as largest:
        model(inputs(3, 4)).sum().backward()
        model.constrain_()
        model.inf_norm_A()
    assert largest.elements < size * size


def test_a_low_rank_model_shows_its_product_and_does_not_take_one() -> None:
    model = make("low rank")
    torch.testing.assert_close(model.A, model.L @ model.R.t())
    assert "A" not in dict(model.named_parameters())
    with pytest.raises(AttributeError, match="set L and R"):
        model.A = torch.zeros(10, 10)


@pytest.mark.parametrize("rank", [None, 2])
def test_inf_norm_is_that_of_the_matrix_in_use(rank: int | None) -> None:
    model = ImplicitModel(4, 2, 300, rank=rank)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    expected = float(matrix_of(model).double().abs().sum(dim=1).max())
    # The product of float32 factors is formed in float64 by one and in float32 by the other.
    assert model.inf_norm_A() == pytest.approx(expected, rel=1e-5)


def test_new_models_start_strictly_inside_the_constraint_and_solve_quickly() -> None:
    for variant in ("full", "low rank"):
        model = make(variant, hidden_dim=100)
        assert 0.001 < model.inf_norm_A() < 0.95
        model(inputs(20))
        assert model.solve_statistics.summary()["iterations_max"] <= 12  # the second check
    assert not bool(make("triangular").A.tril().any())


def test_well_posedness_none_warns_and_leaves_A_alone() -> None:
    with pytest.warns(WellPosednessWarning, match="nothing keeps"):
        model = make(well_posedness="none")
    with torch.no_grad():
        model.A.copy_(3 * torch.eye(10))
    model.constrain_()
    assert model.inf_norm_A() == 3
    with pytest.warns(ConvergenceWarning):
        model.equilibrium(1 + inputs().abs())
    assert model.solve_statistics.summary()["unconverged_share"] > 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_non_finite_input_fails_alone_and_is_told(bad: float) -> None:
    model = make()
    u = inputs()
    clean = model(u)
    u[2, 0] = bad
    with pytest.warns(ConvergenceWarning, match="1 of 5 equilibria.*NaN or infinite"):
        prediction = model(u)
    others = [0, 1, 3, 4]
    torch.testing.assert_close(prediction[others], clean[others], rtol=1e-5, atol=1e-6)
    assert not bool(prediction[2].isfinite().any())


def test_max_iter_is_counted_and_warned_once() -> None:
    model = make(forward={"max_iter": 1, "tol": 1e-12})
    with pytest.warns(ConvergenceWarning):
        model(inputs())
    model(inputs())
    assert model.solve_statistics.summary()["unconverged_share"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": 11}, "rank=11"),
        ({"kappa": 1.0}, "kappa=1"),
        ({"activation": "gelu"}, "kappa must be below 0.885"),
        ({"rank": 2, "well_posedness": "triangular"}, "not triangular"),
        ({"hidden_dim": 0}, "hidden_dim=0"),
        ({"forward": {"tolerance": 1}}, "forward has no 'tolerance': choose from method"),
        ({"backward": {"tol": 0}}, "tol=0"),
        ({"forward": 3}, "forward=3 must be FixedPointSettings"),
    ],
)
def test_contradicting_arguments_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make(**change)


def test_settings_are_taken_as_such_too() -> None:
    forward, backward = FixedPointSettings(tol=1e-7), AdjointSettings(method="jacobian_free")
    model = make(forward=forward, backward=backward)
    assert model.forward_settings is forward
    assert model.backward_settings is backward


def test_from_weights_copies_and_keeps_the_dtype() -> None:
    a = 0.1 * torch.eye(3, dtype=torch.float64)
    b, c, d = (torch.ones(shape, dtype=torch.float64) for shape in ((3, 2), (4, 3), (4, 2)))
    model = ImplicitModel.from_weights(a, b, c, d, output_bias=torch.ones(4).double(), kappa=0.2)
    assert model.B.dtype == torch.float64
    assert torch.equal(model.output_bias, torch.ones(4).double())
    assert torch.equal(model.state_bias, torch.zeros(3).double())
    a.zero_()
    assert bool(model.A.any())
    assert ImplicitModel.from_weights(a, b, c).D is None


def test_from_weights_takes_a_float32_matrix_on_the_ball() -> None:
    source = make(hidden_dim=50)
    with torch.no_grad():
        source.A.mul_(100)
    source.constrain_()
    model = ImplicitModel.from_weights(source.A.detach(), source.B.detach(), source.C.detach())
    assert torch.equal(model.A, source.A)


def test_from_weights_refuses_what_does_not_fit() -> None:
    b, c = torch.ones(3, 2), torch.ones(4, 3)
    with pytest.raises(ArgumentError, match=r"‖A‖∞ = 1 exceeds kappa=0\.95"):
        ImplicitModel.from_weights(torch.eye(3), b, c)
    with pytest.raises(ArgumentError, match="on or below its diagonal"):
        ImplicitModel.from_weights(torch.eye(3), b, c, well_posedness="triangular")
    with pytest.raises(ShapeError, match=r"C has shape \(4, 3\)"):
        ImplicitModel.from_weights(torch.eye(2), torch.ones(2, 2), c)
    with pytest.raises(ShapeError, match="A has shape"):
        ImplicitModel.from_weights(torch.ones(3), b, c)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rank", [None, 3])
def test_a_model_in_half_precision_is_solved_in_float32(
    dtype: torch.dtype, rank: int | None
) -> None:
    torch.manual_seed(0)
    model = ImplicitModel(4, 2, 60, kappa=0.95, rank=rank).to(dtype)
    u = torch.randn(8, 4).to(dtype)
    states = model.equilibrium(u)
    assert states.dtype == dtype
    assert model.solve_statistics.summary()["unconverged_share"] == 0.0
    exact = copy.deepcopy(model).double().equilibrium(u.double())
    # The tolerance of the solve, 1e-5, is far below the rounding of the states.
    torch.testing.assert_close(states.double(), exact, rtol=2 * torch.finfo(dtype).eps, atol=1e-4)
    model(u).sum().backward()
    assert all(p.grad is not None and p.grad.dtype == dtype for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("hidden_dim", [20, 200])
def test_rows_of_a_low_rank_product_in_half_precision_stay_in_the_ball(
    dtype: torch.dtype, hidden_dim: int
) -> None:
    torch.manual_seed(0)
    model = ImplicitModel(4, 2, hidden_dim, kappa=0.95, rank=3)
    with torch.no_grad():
        model.L.normal_()
        model.R.normal_()
    model.constrain_()
    half = copy.deepcopy(model).to(dtype)
    half.constrain_()
    matrix = half.effective_weights().A
    assert matrix.dtype == dtype
    assert float(matrix.double().abs().sum(1).max()) <= 0.95
    assert half.inf_norm_A() <= 0.95
    exact = half.L.detach().double() @ half.R.detach().double().t()
    # Rounded once, and drawn inside by at most as much for a row.
    assert float((matrix.double() - exact).abs().sum(1).max()) <= 2 * torch.finfo(dtype).eps


# -- dropout ---------------------------------------------------------------------------------------


def _dropping(share: float = 0.4) -> ImplicitModel:
    torch.manual_seed(0)
    tight = {"tol": 1e-13}
    return ImplicitModel(
        4, 3, 7, dropout=share, activation="tanh", forward=tight, backward=tight
    ).double()


def test_dropout_is_of_the_states_that_the_prediction_reads() -> None:
    """The mask is what dropout makes of ones from the same seed; the equation has no part in it."""
    model, u = _dropping(), torch.randn(5, 4, dtype=torch.float64)
    x = model.equilibrium(u)
    assert model.eval().equilibrium(u).equal(x)
    whole = model(u)
    model.train()
    torch.manual_seed(3)
    predicted = model(u)
    torch.manual_seed(3)
    mask = torch.nn.functional.dropout(torch.ones_like(x), 0.4)
    assert set(mask.unique().tolist()) == {0.0, 1 / 0.6}
    assert model.D is not None
    expected = (mask * x) @ model.C.t() + u @ model.D.t() + model.output_bias
    torch.testing.assert_close(predicted, expected, rtol=1e-12, atol=1e-12)
    assert not predicted.equal(whole)
    plain = ImplicitModel(**{**model.constructor_arguments(), "dropout": 0.0}).double()  # type: ignore[arg-type]
    plain.load_state_dict(model.state_dict())
    assert plain(u).equal(whole)


def test_gradients_pass_a_drawn_mask() -> None:
    model, u = _dropping(), torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in model.named_parameters()]

    def predict(inputs: Tensor, *weights: Tensor) -> Tensor:
        torch.manual_seed(3)
        given = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(model, given, (inputs,))

    weights = tuple(p.detach().clone().requires_grad_() for p in model.parameters())
    assert torch.autograd.gradcheck(predict, (u, *weights), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_of_states_is_below_one(share: float) -> None:
    with pytest.raises(ArgumentError, match="dropout"):
        ImplicitModel(4, 3, 7, dropout=share)
