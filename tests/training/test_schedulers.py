import json

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, StepLR

from idl_cli.training import schedulers

_TOTAL, _PER_EPOCH = 60, 6


def _optimizer(lr: float = 0.5) -> SGD:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def _rates(scheduler: schedulers.Scheduler, steps: int = _TOTAL) -> list[float]:
    rates = []
    for _ in range(steps):
        rates.append(scheduler.lr)
        scheduler.step()
    return rates


def _torch_rates(optimizer: SGD, scheduler: object) -> list[float]:
    rates = []
    for _ in range(_TOTAL):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()  # type: ignore[attr-defined]
    return rates


def test_cosine_is_torchs() -> None:
    ours = schedulers.cosine(_optimizer(), _TOTAL, _PER_EPOCH, min_factor=0.1)
    theirs = _optimizer()
    expected = _torch_rates(theirs, CosineAnnealingLR(theirs, _TOTAL, eta_min=0.05))
    assert _rates(ours) == pytest.approx(expected, rel=1e-9)  # torch multiplies step by step


def test_one_cycle_is_torchs() -> None:
    ours = schedulers.one_cycle(_optimizer(), _TOTAL, _PER_EPOCH)
    theirs = _optimizer()
    scheduler = OneCycleLR(theirs, max_lr=0.5, total_steps=_TOTAL + 1, cycle_momentum=False)
    expected = _torch_rates(theirs, scheduler)
    assert len(expected) == _TOTAL
    ours_same_length = schedulers.one_cycle(_optimizer(), _TOTAL + 1, _PER_EPOCH)
    assert _rates(ours_same_length) == pytest.approx(expected, rel=1e-9)
    rates = _rates(ours)
    assert rates[0] == pytest.approx(0.5 * 0.04)
    assert max(rates) == pytest.approx(0.5, rel=1e-2)  # the peak lies between two steps
    assert rates[-1] == pytest.approx(0.5 * 4e-6)


def test_step_is_torchs() -> None:
    ours = schedulers.step(_optimizer(), _TOTAL, _PER_EPOCH, every_epochs=2, gamma=0.3)
    theirs = _optimizer()
    expected = _torch_rates(theirs, StepLR(theirs, 2 * _PER_EPOCH, gamma=0.3))
    assert _rates(ours) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["constant", "cosine", "step"])
def test_warm_up_grows_linearly_to_the_full_rate(name: str) -> None:
    warm = getattr(schedulers, name)(_optimizer(), _TOTAL, _PER_EPOCH, warmup_epochs=1.5)
    rates = _rates(warm)
    assert rates[:9] == pytest.approx([0.5 * (t + 1) / 9 for t in range(9)])
    assert rates[9] == pytest.approx(0.5)
    assert all(rate <= 0.5 for rate in rates)


@pytest.mark.parametrize("name", ["constant", "cosine", "step", "one_cycle"])
def test_the_state_is_json_and_continues_exactly(name: str) -> None:
    make = getattr(schedulers, name)
    whole = _rates(make(_optimizer(), _TOTAL, _PER_EPOCH))
    first = make(_optimizer(), _TOTAL, _PER_EPOCH)
    assert _rates(first, 17) == whole[:17]
    state = json.loads(json.dumps(first.state_dict()))
    second = make(_optimizer(lr=9.0), _TOTAL, _PER_EPOCH)
    second.load_state_dict(state)
    assert _rates(second, _TOTAL - 17) == whole[17:]


@pytest.mark.parametrize("name", ["constant", "cosine", "step", "one_cycle"])
def test_one_step_of_one_epoch_and_steps_beyond_the_end_are_fine(name: str) -> None:
    scheduler = getattr(schedulers, name)(_optimizer(), 1, 1)
    rates = _rates(scheduler, 5)
    assert all(0 <= rate <= 0.5 for rate in rates)


def test_scaling_holds_for_all_steps_to_come_and_every_group() -> None:
    optimizer = SGD(
        [
            {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 1.0},
            {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 4.0},
        ]
    )
    scheduler = schedulers.step(optimizer, _TOTAL, 1, every_epochs=1, gamma=0.5)
    scheduler.scale(0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 2.0]
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 1.0]
