from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from idl_cli.errors import ArgumentError
from idl_cli.evaluation.attacks import (
    Attack,
    Ball,
    EuclideanPgd,
    Fgsm,
    FgsmOptions,
    MultiTargeted,
    MultiTargetedOptions,
    Pgd,
    PgdOptions,
    Strongest,
)
from idl_cli.evaluation.attacks.options import LossName, RuleName
from idl_cli.models.implicit import ImplicitModel

RULES: tuple[RuleName, ...] = ("constant", "cosine", "auto")
LOSSES: tuple[LossName, ...] = ("cross_entropy", "margin", "dlr")
ATTACKS: dict[str, Attack] = {
    **{f"fgsm-{loss}": Fgsm(FgsmOptions(loss=loss)) for loss in LOSSES},
    **{
        f"pgd-{rule}-{loss}": Pgd(PgdOptions(steps=7, restarts=2, rule=rule, loss=loss))
        for rule in RULES
        for loss in LOSSES
    },
    **{f"targeted-{r}": MultiTargeted(MultiTargetedOptions(steps=4, rule=r)) for r in RULES},
    "strongest": Strongest([Fgsm(), Pgd(PgdOptions(steps=3, restarts=2)), MultiTargeted()]),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(classes: int = 4, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, classes)).to(
        dtype
    )


def batch(
    samples: int = 24, classes: int = 4, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    draw = generator(2)
    inputs = torch.rand(samples, 2, 3, generator=draw, dtype=dtype)
    return inputs, torch.randint(0, classes, (samples,), generator=draw)


# -- the ball --------------------------------------------------------------------------------------


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=5),
    epsilon=st.one_of(st.just(0.1), st.floats(0, 1e6), st.floats(0, 1e-6)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_no_point_of_a_ball_is_farther_than_epsilon_by_a_bit(
    values: list[float], epsilon: float, dtype: torch.dtype
) -> None:
    inputs = torch.tensor([values], dtype=dtype)
    ball = Ball.around(inputs, epsilon, None)
    for u, low, high in zip(
        *(t.flatten().tolist() for t in (inputs, ball.low, ball.high)), strict=True
    ):
        assert 0 <= Fraction(u) - Fraction(low) <= Fraction(epsilon)
        assert 0 <= Fraction(high) - Fraction(u) <= Fraction(epsilon)
    widest = torch.maximum(inputs.abs(), torch.tensor(epsilon, dtype=dtype))
    # No more is given away than the rounding of one subtraction, and of ε itself.
    assert bool((epsilon - (inputs - ball.low) <= 4 * torch.finfo(dtype).eps * widest).all())


def test_the_valid_range_cuts_the_ball_but_never_the_sample_out_of_it() -> None:
    inputs = torch.tensor([[0.05, 0.5, 0.98, 1.0000001, -0.2]])
    ball = Ball.around(inputs, 0.1, (0.0, 1.0))
    expected_low = torch.tensor([[0.0, 0.4, 0.88, 0.9000001, -0.2]])
    torch.testing.assert_close(ball.low, expected_low)
    torch.testing.assert_close(ball.high, torch.tensor([[0.15, 0.6, 1.0, 1.0000001, -0.1]]))
    assert bool(((ball.low <= inputs) & (inputs <= ball.high)).all())


@pytest.mark.parametrize("epsilon", [-0.1, math.nan, math.inf, torch.tensor([0.1, -1e-9])])
def test_a_radius_that_is_none_is_refused(epsilon: float | Tensor) -> None:
    with pytest.raises(ArgumentError, match="epsilon="):
        Ball.around(torch.zeros(3, 2), epsilon, None)


def test_an_infinite_radius_is_the_valid_range() -> None:
    ball = Ball.around(torch.full((2, 3), 0.5), math.inf, (-1.0, 2.0))
    assert ball.low.eq(-1).all()
    assert ball.high.eq(2).all()


# -- what every attack keeps to --------------------------------------------------------------------


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("radius", ["one", "per feature", "per sample"])
def test_attacks_stay_in_ball_and_range_and_tell_the_truth(name: str, radius: str) -> None:
    model, (inputs, labels) = network(), batch()
    epsilon = {
        "one": torch.tensor(0.17),
        "per feature": torch.rand(2, 3, generator=generator(3)) * (torch.arange(3) > 0),
        "per sample": torch.rand(len(inputs), 1, 1, generator=generator(4)),
    }[radius]
    found = ATTACKS[name](model, inputs, labels, epsilon, valid=(0.0, 1.0), generator=generator())
    exact = (found.inputs.double() - inputs.double()).abs()
    assert bool((exact <= epsilon.double()).all())
    assert found.inputs.min() >= 0
    assert found.inputs.max() <= 1
    logits = model(found.inputs)
    torch.testing.assert_close(found.broken, logits.argmax(1) != labels)
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    own = logits.gather(1, labels[:, None]).squeeze(1)
    torch.testing.assert_close(found.margins, own - others)
    clean = model(inputs)
    assert bool(found.broken[clean.argmax(1) != labels].all())
    # At least one sample falls that stood, so that the search is known to have moved.
    assert found.broken.sum() > (clean.argmax(1) != labels).sum()
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["fgsm-margin", "pgd-auto-dlr", "targeted-cosine", "strongest"])
def test_without_a_budget_the_sample_is_all_there_is(name: str) -> None:
    model, (inputs, labels) = network(), batch()
    found = ATTACKS[name](model, inputs, labels, 0.0, generator=generator())
    torch.testing.assert_close(found.inputs, inputs, rtol=0, atol=0)
    torch.testing.assert_close(found.broken, model(inputs).argmax(1) != labels)


def test_a_sample_without_finite_outputs_is_broken_and_the_others_are_attacked() -> None:
    inputs, labels = batch()
    labels = network()(inputs).argmax(1)
    inputs[3] = math.nan

    found = ATTACKS["pgd-auto-margin"](network(), inputs, labels, 0.3, generator=generator())
    assert found.broken[3]
    assert 1 < found.broken.sum() < len(inputs)


# -- exactness -------------------------------------------------------------------------------------


@settings(max_examples=25, derandomize=True, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    epsilon=st.floats(0.01, 2.0),
    rule=st.sampled_from(RULES),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_the_worst_input_of_a_linear_model_is_found(
    seed: int, epsilon: float, rule: RuleName, scale: float
) -> None:
    draw = generator(seed)
    weight = scale * torch.randn(4, 5, generator=draw, dtype=torch.float64)
    inputs = torch.rand(6, 5, generator=draw, dtype=torch.float64)
    labels = (inputs @ weight.t()).argmax(1)
    ball = Ball.around(inputs, epsilon, (0.0, 1.0))
    difference = weight[labels][:, None] - weight[None]  # (b, K, p)
    at_corner = torch.where(difference > 0, ball.low[:, None], ball.high[:, None])
    worst = (difference * at_corner).sum(2)
    worst = worst.scatter(1, labels[:, None], torch.inf).amin(1)
    attack = MultiTargeted(MultiTargetedOptions(steps=5, rule=rule))
    found = attack(lambda u: u @ weight.t(), inputs, labels, epsilon, valid=(0.0, 1.0))
    torch.testing.assert_close(found.broken, worst < 0)
    stands = ~found.broken  # a broken one is left where it broke
    torch.testing.assert_close(found.margins[stands], worst[stands], rtol=1e-9, atol=1e-9 * scale)
    two = weight[:2]
    of_two = (inputs @ two.t()).argmax(1)
    corner = (two[of_two] - two[1 - of_two])[:, None]
    expected = torch.where(corner > 0, ball.low[:, None], ball.high[:, None])
    optimum = (corner * expected).sum((1, 2))
    for single in (Fgsm(), Pgd(PgdOptions(steps=1, rule=rule))):
        found = single(lambda u: u @ two.t(), inputs, of_two, epsilon, valid=(0.0, 1.0))
        if isinstance(single, Fgsm) or rule != "constant":
            torch.testing.assert_close(found.margins, optimum, rtol=1e-9, atol=1e-9 * scale)


def test_restarts_and_more_attacks_never_find_less() -> None:
    model, (inputs, labels) = network(), batch(64)
    labels = model(inputs).argmax(1)
    previous = None
    for restarts in (1, 2, 4, 8):
        attack = Pgd(PgdOptions(steps=3, restarts=restarts, rule="constant"))
        found = attack(model, inputs, labels, 0.1, generator=generator())
        if previous is not None:
            assert bool((found.broken | ~previous.broken).all())
            assert bool((found.margins <= previous.margins).all())
        previous = found
    assert previous is not None
    both = Strongest([Fgsm(), Pgd(PgdOptions(steps=3))])(model, inputs, labels, 0.1)
    assert bool((both.margins <= Fgsm()(model, inputs, labels, 0.1).margins).all())


def test_margins_find_what_a_saturated_cross_entropy_hides() -> None:
    """Logits in the thousands: the gradient of the cross-entropy is exactly 0 in float32."""
    draw = generator(5)
    weight = 1e4 * torch.randn(3, 6, generator=draw)
    inputs = torch.rand(16, 6, generator=draw)
    labels = (inputs @ weight.t()).argmax(1)

    def share(loss: LossName) -> float:
        attack = Pgd(PgdOptions(steps=10, loss=loss))
        return attack(lambda u: u @ weight.t(), inputs, labels, 0.4).broken.float().mean().item()

    assert share("cross_entropy") < share("margin")
    assert share("cross_entropy") < share("dlr")


def test_an_implicit_model_is_attacked_through_its_equilibrium() -> None:
    torch.manual_seed(0)
    model = ImplicitModel(6, 3, 12, kappa=0.9).double().requires_grad_(False)
    inputs = torch.rand(20, 6, dtype=torch.float64, generator=generator(6))
    labels = model(inputs).argmax(1)
    fgsm = Fgsm()(model, inputs, labels, 0.02)
    pgd = Pgd(PgdOptions(steps=20))(model, inputs, labels, 0.02)
    assert bool((pgd.margins[~pgd.broken] <= fgsm.margins[~pgd.broken]).all())
    assert pgd.broken.any()
    assert not pgd.broken.all()


# -- the Euclidean ball ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_euclidean_worst_input_of_a_linear_model_is_found(dtype: torch.dtype) -> None:
    """Along (ε a)² for a row a of differences: the margin falls by ‖ε a‖₂."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 2)).to(dtype)
    inputs, _ = batch(dtype=dtype)
    axes = 1e-3 * torch.linspace(0.5, 2, 6, dtype=torch.float64).view(2, 3)
    with torch.no_grad():
        outputs = model(inputs)
        labels = outputs.argmax(1)
        weights = model[1].weight[0] - model[1].weight[1]
        fall = float((weights.double() * axes.flatten()).norm())
        margins = (outputs[:, 0] - outputs[:, 1]).abs().double()
    found = EuclideanPgd(PgdOptions(steps=10))(model, inputs, labels, axes)
    moved = ((found.inputs.double() - inputs.double()) / axes).flatten(1).norm(dim=1)
    assert bool((moved <= 1 + (1e-3 if dtype == torch.float32 else 1e-12)).all())
    # float32 outputs of order one hold seven digits
    near = {"rtol": 1e-6, "atol": 1e-5 if dtype == torch.float32 else 1e-12}
    standing = margins > fall
    assert torch.allclose(found.margins.double()[standing], (margins - fall)[standing], **near)
    assert torch.equal(found.broken, ~standing)


def test_the_euclidean_attack_keeps_ball_and_range() -> None:
    model = network(dtype=torch.float64)
    inputs, _ = batch(dtype=torch.float64)
    labels = model(inputs).argmax(1)
    attack = EuclideanPgd(PgdOptions(steps=6, restarts=3))
    found = attack(model, inputs, labels, 0.4, valid=(0.0, 1.0), generator=generator())
    assert float(((found.inputs - inputs) / 0.4).flatten(1).norm(dim=1).max()) <= 1
    assert float(found.inputs.min()) >= 0
    assert float(found.inputs.max()) <= 1
    fewer = EuclideanPgd(PgdOptions(steps=6))(model, inputs, labels, 0.4, valid=(0.0, 1.0))
    assert int(found.broken.sum()) >= int(fewer.broken.sum()) > 0
    nowhere = attack(model, inputs, labels, 0.0, generator=generator())
    assert torch.equal(nowhere.inputs, inputs)
