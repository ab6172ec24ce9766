"""Mixed samples: shares of inputs and classes agree, and depend on key and place alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, kstest
from torch import Tensor

from idl_cli.data.loader import BatchLoader
from idl_cli.data.mixing import Mixing, make_mixing
from idl_cli.data.preprocessing import Preprocessing
from idl_cli.data.randomness import Purpose, random_permutation
from idl_cli.data.split import Split
from idl_cli.data.task import Task
from idl_cli.errors import ConfigError

KEY = (3, 1, 4)


def _own_classes(count: int) -> tuple[Tensor, Tensor]:
    """Every sample of a class of its own, and filled with its number."""
    targets = torch.arange(count)
    return targets[:, None, None, None].expand(count, 2, 9, 7).double(), targets


def _partners(count: int) -> Tensor:
    return torch.from_numpy(random_permutation(count, Purpose.PARTNERS, *KEY))


def test_mixup_is_the_convex_combination_that_its_shares_say() -> None:
    inputs = torch.randn(16, 5, dtype=torch.float64)
    mixed, shares = Mixing(16, mixup=1.0)(inputs, torch.arange(16), KEY)
    # A class a sample: the shares are the weights of the samples in each mixture.
    torch.testing.assert_close(mixed, shares @ inputs, rtol=1e-14, atol=1e-14)
    assert ((shares > 0).sum(dim=1) == 2).sum() >= 14  # few are partners of themselves


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_shares_follow_the_beta_distribution(alpha: float) -> None:
    count = 4000
    inputs, targets = torch.arange(count, dtype=torch.float64)[:, None], torch.arange(count)
    mixed, _ = Mixing(count, mixup=alpha)(inputs, targets, KEY)
    partners = _partners(count).double()
    apart = (partners - targets).abs() > 0.5
    own = ((mixed[:, 0] - partners) / (targets - partners))[apart]
    # The numbers are fixed by the key: this is no matter of chance, but of the right distribution.
    assert kstest(own.numpy(), beta(alpha, alpha).cdf).pvalue > 0.01


@given(st.integers(1, 12), st.floats(0.05, 5), st.booleans())
@settings(max_examples=40, deadline=None)
def test_shares_of_cutmix_are_those_of_the_pixels(count: int, alpha: float, both: bool) -> None:
    inputs, targets = _own_classes(count)
    mixed, shares = Mixing(count, mixup=alpha if both else 0.0, cutmix=alpha)(inputs, targets, KEY)
    # The images are constant, so their means are the mixtures of the numbers of the two.
    torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), shares @ targets.double())
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(count, dtype=torch.float64))
    if not both:
        assert mixed.eq(mixed.round()).all(), "every pixel is one image's or the other's"


def test_cutmix_puts_a_rectangle_of_the_partner_in_its_place() -> None:
    count = 40
    inputs, targets = _own_classes(count)
    mixed, _ = Mixing(count, cutmix=1.0)(inputs, targets, KEY)
    sizes = set()
    for image, own, partner in zip(mixed, targets, _partners(count), strict=True):
        assert image[0].equal(image[1]), "all channels have the same rectangle"
        foreign = image[0] != own
        if not foreign.any() or own == partner:
            continue
        assert (image[0][foreign] == partner).all()
        rows, columns = foreign.any(dim=1), foreign.any(dim=0)
        assert foreign.equal(rows[:, None] & columns[None])
        places = rows.nonzero()
        assert len(places) == places[-1] - places[0] + 1
        sizes.add((int(rows.sum()), int(columns.sum())))
    assert len(sizes) > 10


def test_with_both_about_half_of_the_samples_have_either() -> None:
    count = 400
    inputs, targets = _own_classes(count)
    mixed, _ = Mixing(count, mixup=1.0, cutmix=1.0)(inputs, targets, KEY)
    whole = (mixed != mixed.round()).flatten(1).any(dim=1)
    assert 160 < int(whole.sum()) < 240  # four standard deviations


def _loader(rank: int = 0, ranks: int = 1, **options: Any) -> BatchLoader:
    generator = torch.Generator().manual_seed(0)
    split = Split(
        torch.randint(0, 256, (21, 1, 6, 6), dtype=torch.uint8, generator=generator),
        torch.randint(0, 3, (21,), generator=generator),
    )
    return BatchLoader(
        split,
        8,
        preprocessing=Preprocessing.fit(split.inputs, "channel"),
        shuffle=True,
        seed=5,
        rank=rank,
        ranks=ranks,
        mixing=Mixing(3, 0.4, 1.0),
        **options,
    )


def test_batches_are_the_same_on_any_number_of_ranks() -> None:
    whole = list(_loader())
    parts = zip(*(_loader(rank, 3) for rank in range(3)), strict=True)
    for (inputs, targets), ranks in zip(whole, parts, strict=True):
        assert torch.cat([part[0] for part in ranks]).equal(inputs)
        assert torch.cat([part[1] for part in ranks]).equal(targets)


def test_an_epoch_goes_on_in_the_middle_and_another_one_mixes_otherwise() -> None:
    batches = _loader()
    first = list(batches)
    for drawn, expected in zip(batches.iterate(1), first[1:], strict=True):
        assert drawn[0].equal(expected[0])
        assert drawn[1].equal(expected[1])
    batches.set_epoch(1)
    assert not next(iter(batches))[1].equal(first[0][1])


@pytest.mark.parametrize(
    ("task", "cutmix", "said"),
    [
        (Task("regression", (1, 8, 8), 2), 0.0, "trainer.mixup=0.2: the data set is a regression"),
        (Task("classification", (5, 2), 3, sequence=True), 0.0, "holds sequences"),
        (Task("classification", (5,), 3), 1.0, "trainer.cutmix=1: cuts rectangles out of images"),
    ],
)
def test_what_cannot_be_mixed_is_refused(task: Task, cutmix: float, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_mixing(task, mixup=0.2, cutmix=cutmix)


def test_nothing_is_mixed_unless_asked_for() -> None:
    assert make_mixing(Task("regression", (5,), 3), mixup=0.0, cutmix=0.0) is None
