"""A model of few non-zeros gives what the dense one does, and notices every change."""

import copy
import pickle

import pytest
import torch
from torch import Tensor

from idl_cli import ImplicitModel, ImplicitRNN
from idl_cli.equilibrium.conditions import WellPosedness
from idl_cli.equilibrium.operators import (
    DenseOperator,
    SparseOperator,
    SparseTriangularOperator,
    sparse_pays,
)
from idl_cli.equilibrium.operators.crossover import most_nonzeros
from idl_cli.models.sparse.few_nonzeros import lasting_patterns
from idl_cli.training.sparsity import SparsityMask

SIZE, SAMPLES = 320, 6


def weights(kind: str = "full", norm: float = 0.9) -> tuple[Tensor, ...]:
    """A, B, C and D, in float64, of 3 % non-zeros; of layers, A has no cycle."""
    generator = torch.Generator().manual_seed(0)

    def few(*shape: int) -> Tensor:
        matrix = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return matrix * (torch.rand(*shape, generator=generator) < 0.03)

    A = few(SIZE, SIZE)
    if kind == "layers":
        layer = torch.randint(5, (SIZE,), generator=generator)
        A *= layer[None] > layer[:, None]
    A *= norm / A.abs().sum(dim=1).max()
    return A, few(SIZE, 300), few(300, SIZE), few(300, 300)


def model_of(kind: str = "full", **settings: object) -> ImplicitModel:
    tight = {"tol": 1e-13}
    return ImplicitModel.from_weights(
        *weights(kind), forward=tight, backward=tight, activation="tanh", **settings
    )  # type: ignore[arg-type]


def inputs() -> Tensor:
    return torch.randn(SAMPLES, 300, generator=torch.Generator().manual_seed(1)).double()


def prediction(model: ImplicitModel, u: Tensor) -> Tensor:
    """By dense products alone: where a gradient is asked for and no zeros are kept."""
    with torch.enable_grad():
        result: Tensor = model(u)
    return result.detach()


@pytest.mark.parametrize(("kind", "form"), [("full", SparseOperator),
                                            ("layers", SparseTriangularOperator)])  # fmt: skip
@torch.no_grad()
def test_predictions_are_those_of_the_dense_model(kind: str, form: type) -> None:
    model, u = model_of(kind), inputs()
    assert type(model.ordered_operator()[0]) is form
    torch.testing.assert_close(model(u), prediction(model, u), atol=1e-11, rtol=0)
    for samples in (1, 3):  # a sample is the same in a batch of any size
        torch.testing.assert_close(model(u[:samples]), model(u)[:samples], atol=1e-11, rtol=0)
    single = copy.deepcopy(model).float()
    torch.testing.assert_close(single(u.float()).double(), model(u), atol=1e-3, rtol=1e-3)
    half = copy.deepcopy(model).bfloat16()
    torch.testing.assert_close(half(u.bfloat16()), prediction(half, u.bfloat16()))  # type: ignore[arg-type]


def test_in_inference_mode_it_is_the_same_also_where_it_is_slow() -> None:
    A, *others = weights()
    A = A.abs() / A.abs().sum(dim=1, keepdim=True).clamp(min=1e-9) * 0.99
    model = ImplicitModel.from_weights(A, *others, kappa=0.995, forward={"tol": 1e-12})
    u = inputs()
    expected = prediction(model, u)
    for _ in range(2):
        with torch.inference_mode():
            torch.testing.assert_close(model(u), expected, atol=1e-8, rtol=0)
    with torch.inference_mode():
        inner = ImplicitModel.from_weights(A, *others, kappa=0.995, forward={"tol": 1e-12})
        torch.testing.assert_close(inner(u), expected, atol=1e-8, rtol=0)


@pytest.mark.parametrize("kind", ["full", "layers"])
def test_after_inference_the_inputs_of_a_frozen_model_have_a_gradient(kind: str) -> None:
    model, u = model_of(kind), inputs().requires_grad_()
    expected = torch.autograd.grad(model(u).square().sum(), u)[0]
    model.requires_grad_(False)
    with torch.inference_mode():
        model(inputs())
    assert isinstance(model.ordered_operator()[0], SparseOperator)
    found = torch.autograd.grad(model(u).square().sum(), u)[0]
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)
    restored = pickle.loads(pickle.dumps(model))
    torch.testing.assert_close(restored(u), model(u), atol=1e-11, rtol=0)


def test_an_acyclic_one_is_solved_in_one_sweep() -> None:
    model = model_of("layers")
    with torch.no_grad():
        model(inputs())
    assert model.solve_statistics.summary()["iterations_max"] == 1


@pytest.mark.parametrize("kind", ["full", "layers"])
def test_with_zeros_kept_the_gradient_is_the_dense_one_at_the_non_zeros(kind: str) -> None:
    model, u = model_of(kind), inputs().requires_grad_()
    dense = torch.autograd.grad(model(u).square().sum(), (u, *model.parameters()))
    assert bool((dense[1][model.A == 0] != 0).any()), "zeros that need not last have a gradient"
    with SparsityMask(model).kept():
        found = torch.autograd.grad(model(u).square().sum(), (u, *model.parameters()))
        first = torch.autograd.grad(model(u).square().sum(), u, create_graph=True)
        second = torch.autograd.grad(first[0].square().sum(), model.A)
    again = torch.autograd.grad(model(u).square().sum(), u, create_graph=True)
    torch.testing.assert_close(found[0], dense[0], atol=1e-9, rtol=1e-9)
    for one, other, weight in zip(found[1:], dense[1:], model.parameters(), strict=True):
        torch.testing.assert_close(one, other * (weight != 0), atol=1e-9, rtol=1e-9)
    expected = torch.autograd.grad(again[0].square().sum(), model.A)[0] * (model.A != 0)
    torch.testing.assert_close(second[0], expected, atol=1e-8, rtol=1e-8)


def test_an_entry_that_becomes_zero_on_the_way_keeps_its_gradient() -> None:
    model, u = model_of(), inputs()
    mask = SparsityMask(model)
    row, column = model.A.detach().nonzero()[0].tolist()
    with torch.no_grad():
        model.A[row, column] = 0
    with mask.kept():
        model(u).square().sum().backward()
    assert model.A.grad is not None
    assert float(model.A.grad[row, column]) != 0


@pytest.mark.parametrize("way", ["in place", "data", "numpy", "replaced", "loaded", "moved"])
@torch.no_grad()
def test_a_change_is_seen_however_it_is_made(way: str) -> None:
    model, u = model_of(well_posedness="linf"), inputs()
    model(u)
    changed = 0.5 * model.A
    if way == "moved":  # as many non-zeros as before, of the same sum
        changed = model.A.roll(1, 1)
    changed[3, 7] = 0.01
    if way in ("in place", "moved"):
        model.A.copy_(changed)
    elif way == "data":
        model.A.data.copy_(changed)
    elif way == "numpy":
        model.A.numpy()[:] = changed.numpy()
    elif way == "replaced":
        model.A = torch.nn.Parameter(changed)
    else:
        model.load_state_dict(model.state_dict() | {"A": changed})
    expected = prediction(model, u)
    torch.testing.assert_close(model(u), expected, atol=1e-11, rtol=0)
    model.B.data[5] += 1  # a dense row
    torch.testing.assert_close(model(u), prediction(model, u), atol=1e-11, rtol=0)


@pytest.mark.parametrize("well_posedness", ["linf", "triangular", "none"])
@pytest.mark.filterwarnings("ignore:well_posedness=none")
def test_stored_entries_outside_the_set_are_treated_as_in_the_dense_model(
    well_posedness: WellPosedness,
) -> None:
    model = model_of("layers" if well_posedness == "none" else "full")
    A, *_ = weights("layers" if well_posedness == "none" else "full", norm=3.0)
    other = ImplicitModel(300, 300, SIZE, well_posedness=well_posedness).double()
    other.load_state_dict(model.state_dict() | {"A": A}, strict=False)
    u = inputs()
    with torch.no_grad():
        torch.testing.assert_close(other(u), prediction(other, u), atol=1e-4, rtol=1e-4)
    dense = torch.autograd.grad(other(u).sum(), other.A)[0]
    with SparsityMask(other).kept():
        found = torch.autograd.grad(other(u).sum(), other.A)[0]
    torch.testing.assert_close(found, dense * (A != 0), atol=1e-3, rtol=1e-3)


def test_a_recurrent_network_takes_its_few_non_zeros_too() -> None:
    torch.manual_seed(0)
    network = ImplicitRNN(3, 2, SIZE, 4, forward={"tol": 1e-12}, backward={"tol": 1e-12}).double()
    cell = network.implicit_models()[0]
    with torch.no_grad():
        cell.A.copy_(weights()[0])
    u = torch.randn(2, 3, 3).double()
    dense = torch.autograd.grad(network(u).sum(), list(network.parameters()))
    with torch.no_grad():
        assert isinstance(cell.ordered_operator()[0], SparseOperator)
        torch.testing.assert_close(network(u), network(u))
        expected = network(u)
    with SparsityMask(network).kept():
        torch.testing.assert_close(network(u).detach(), expected, atol=1e-10, rtol=0)
        found = torch.autograd.grad(network(u).sum(), list(network.parameters()))
    for one, other, weight in zip(found, dense, network.parameters(), strict=True):
        masked = other * (weight != 0) if weight is cell.A else other
        torch.testing.assert_close(one, masked, atol=1e-9, rtol=1e-9)


def test_only_what_pays_is_compressed() -> None:
    model = model_of()
    assert set(lasting_patterns(model)) == {"A", "B", "C", "D"}
    assert not sparse_pays(torch.eye(200))
    assert not sparse_pays(torch.ones(SIZE, SIZE))
    # Dense but for the rows that are looked at first.
    misleading = torch.ones(SIZE, SIZE)
    misleading[:: SIZE // 8] = 0
    assert not sparse_pays(misleading)
    assert 0 < most_nonzeros(320, 320) < 0.15 * 320**2
    assert most_nonzeros(4000, 4000) == int(0.15 * 4000**2)
    assert type(ImplicitModel(4, 2, 320).ordered_operator()[0]) is DenseOperator
    values = torch.func.functional_call(model, {"B": model.B.detach() * 2}, (inputs(),))
    assert values.shape == (SAMPLES, 300)


def test_an_a_that_no_one_trains_is_put_in_order_once_and_anew_after_any_change() -> None:
    generator = torch.Generator().manual_seed(0)
    model = ImplicitModel(4, 2, 30, well_posedness="triangular").double().requires_grad_(False)
    u = torch.randn(5, 4, generator=generator, dtype=torch.float64)

    def expected() -> Tensor:
        with torch.enable_grad():
            copy = ImplicitModel(4, 2, 30, well_posedness="triangular").double()
            copy.load_state_dict(model.state_dict())
            result: Tensor = copy(u)
        return result.detach()

    assert torch.equal(model(u), expected())
    first = model.ordered_operator()[0]
    assert model.ordered_operator()[0] is first
    for change in (
        lambda: model.A.mul_(2),
        lambda: model.A.data.__setitem__((0, 5), 3.0),
        lambda: model.A.triu_(4),  # other blocks
        lambda: model.load_state_dict({k: -v for k, v in model.state_dict().items()}),
    ):
        change()
        assert torch.equal(model(u), expected())
    assert model.ordered_operator()[0] is not first
    model.A.fill_(0.01)  # below the diagonal too, where it does not count until it is in no set
    swept = model(u)
    model.free_()
    assert not torch.equal(model(u), swept)
