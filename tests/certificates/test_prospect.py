"""Which samples are worth a dearer bound, and that leaving the others out claims nothing more."""

from __future__ import annotations

import pytest
import torch

from idl_cli.certificates.certification import Certifier
from idl_cli.certificates.prospect import Prospect, pilots
from idl_cli.evaluation.attacks.margins import margins
from tests.certificates.models import judged, random_model, samples, unit


def test_a_sample_is_worthwhile_while_no_class_lacks_more_than_the_share() -> None:
    centre = torch.tensor([[torch.inf, 1.0, 3.0]]).expand(4, -1)
    bounds = torch.tensor(
        [
            [torch.inf, -1.0, 1.0],  # lacks 1 of a loss of 2
            [torch.inf, -0.2, 0.5],  # 0.2 of 1.2
            [torch.inf, 0.1, 0.5],  # nothing
            [torch.inf, torch.nan, 0.5],  # nothing is known
        ]
    )
    for share, expected in (
        (1.0, [True, True, True, True]),
        (0.4, [False, True, True, True]),
        (0.1, [False, False, True, True]),
    ):
        assert Prospect(share).worthwhile(bounds, centre).tolist() == expected


def test_pilots_say_what_may_be_won_back() -> None:
    centre = torch.tensor([[torch.inf, 1.0, 3.0]])
    before = torch.tensor([[torch.inf, -1.0, 1.0]])
    after = torch.tensor([[torch.inf, -0.8, 2.5]])  # 0.1 of what class 1 lost; class 2 lacked none
    assert Prospect.of(before, after, centre).share == pytest.approx(0.15)
    assert Prospect.of(before.abs(), after, centre).share == 1  # none lacked anything
    assert Prospect.of(before * torch.nan, after, centre).share == 1


def test_pilots_are_spread_over_all_samples() -> None:
    assert pilots(100, 4).nonzero().squeeze(1).tolist() == [0, 33, 66, 99]
    assert bool(pilots(3, 16).all())
    assert len(pilots(0, 16)) == 0


@pytest.mark.parametrize("epsilon", [0.02, 0.05, 0.1])
def test_auto_claims_no_more_for_giving_up(epsilon: float) -> None:
    """Its margins hold at inputs of the region, and it decides nearly what the slow bound does."""
    values, of_model = samples(40), judged(random_model())
    radii = torch.full((40,), epsilon, dtype=torch.float64)
    with torch.no_grad():
        classes = of_model.equation.model(unit().inputs(values)).argmax(1)
    auto, dual = (
        Certifier(of_model, unit(), method=method).verdicts(values, classes, radii)
        for method in ("auto", "dual")
    )
    generator = torch.Generator().manual_seed(0)
    moved = values + epsilon * (2 * torch.rand(2000, 40, 5, generator=generator).double() - 1)
    with torch.no_grad():
        outputs = of_model.equation.model(unit().inputs(moved.flatten(0, 1)))
    leads = margins(outputs, classes.repeat(2000)).view(2000, 40).amin(0)
    assert bool((auto.margin <= leads + 1e-9 * (1 + leads.abs())).all())
    assert int((dual.certified & ~auto.certified).sum()) <= 2
    assert 0 < int(auto.certified.sum()) < 40
