"""Stopped and continued anywhere, a training ends in the same bits."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from idl_cli.data.mixing import make_mixing
from idl_cli.data.task import Task
from idl_cli.distributed.process import Interrupted
from idl_cli.run.state import read_state, write_state
from idl_cli.training.rng_state import seed_everything
from idl_cli.training.trainer import Trainer
from tests.run.test_state import assert_same
from tests.training.helpers import (
    CLASSIFICATION,
    REGRESSION,
    Listener,
    NoisyModel,
    loader,
    make_trainer,
    samples,
    without_seconds,
)

PERTURBATION = {"epsilon": 0.1, "clean_epochs": 0.5, "ramp_epochs": 2.0, "attack_steps": 2}


def _augment(inputs: torch.Tensor, key: Any, *, first: int = 0) -> torch.Tensor:
    assert first == 0, "one process draws whole batches"
    generator = torch.Generator().manual_seed(hash(tuple(key)) % 2**32)
    return inputs + torch.randn(inputs.shape, generator=generator) / 16


def _make(task: Task, stop_at: int | None = None, **options: Any) -> tuple[Trainer, Listener]:
    """A training with every source of state: moments, schedule, dropout, augmentation."""
    torch.manual_seed(0)
    trainer, listener = make_trainer(task, model=NoisyModel(task.output_dim), epochs=4, **options)
    trainer.train_loader = loader(
        samples(task, 44),
        8,
        augmentation=_augment,
        mixing=make_mixing(task, mixup=options.get("mixup", 0.0), cutmix=0.0),
        dtype=options.get("dtype", torch.float32),
    )
    trainer.interrupted = lambda: 2 if trainer.progress.step == stop_at else None
    seed_everything(1)
    return trainer, listener


@pytest.mark.parametrize(
    ("task", "options"),
    [
        (CLASSIFICATION, {"optimizer": "adam", "scheduler": "cosine"}),
        (CLASSIFICATION, {"optimizer": "sgd", "scheduler": "one_cycle", "accumulate": 2}),
        (REGRESSION, {"optimizer": "adamw", "scheduler": "step", "validation": False}),
        (REGRESSION, {"optimizer": "rmsprop", "scheduler": "constant", "dtype": torch.float64}),
        (CLASSIFICATION, {"optimizer": "adagrad", "on_nonfinite": "rollback"}),
        (CLASSIFICATION, {"ema": 0.95, "mixup": 0.5, "on_nonfinite": "rollback", "lr": 0.1}),
        (CLASSIFICATION, {"robust": "adversarial", "perturbation": PERTURBATION}),
    ],
)
@pytest.mark.parametrize("stop_at", [1, 4, 6, 9, 12])
def test_a_stopped_training_continues_to_the_bit(
    tmp_path: Path, task: Task, options: dict[str, Any], stop_at: int
) -> None:
    whole, heard = _make(task, **options)
    whole.fit()
    if stop_at > whole.progress.step:
        pytest.fail("the training is too short to be stopped there")

    first, heard_first = _make(task, stop_at, **options)
    with pytest.raises(Interrupted):
        first.fit()
    write_state(tmp_path / "last.safetensors", heard_first.states[-1][1])

    seed_everything(99)  # a new process has other generator states
    second, heard_second = _make(task, **options)
    torch.rand(3)
    state: Any = read_state(tmp_path / "last.safetensors")
    second.load_state_dict(state)
    second.fit()

    assert_same(without_seconds(second.state_dict()), without_seconds(whole.state_dict()))
    together = [*heard_first.records, *heard_second.records]
    assert without_seconds(together) == without_seconds(heard.records)


def test_a_checkpoint_within_an_epoch_continues_to_the_bit() -> None:
    whole, heard = _make(CLASSIFICATION, checkpoint_every=4)
    whole.fit()
    lasts = [state for which, state in heard.states if which == "last"]
    assert [state["progress"]["step"] for state in lasts] == [4, 6, 8, 12, 12, 16, 18, 20, 24, 24]
    for state in lasts[:6]:
        again, _ = _make(CLASSIFICATION, checkpoint_every=4)
        again.load_state_dict(copy.deepcopy(state))
        again.fit()
        assert_same(without_seconds(again.state_dict()), without_seconds(whole.state_dict()))


def test_seconds_add_up_over_a_resume() -> None:
    first, heard = _make(CLASSIFICATION, stop_at=4)
    with pytest.raises(Interrupted):
        first.fit()
    before = first.progress.seconds
    second, _ = _make(CLASSIFICATION)
    second.load_state_dict(heard.states[-1][1])
    result = second.fit()
    assert result.seconds > before > 0


def test_more_epochs_continue_a_finished_training() -> None:
    whole, _ = make_trainer(epochs=5, scheduler="constant")
    whole.fit()
    short, heard = make_trainer(epochs=2, scheduler="constant")
    short.fit()
    longer, _ = make_trainer(epochs=5, scheduler="constant")
    longer.load_state_dict(heard.states[-1][1])
    longer.fit()
    assert_same(longer.model.state_dict(), whole.model.state_dict())


def test_a_finished_training_has_nothing_left_to_do() -> None:
    trainer, heard = make_trainer(epochs=2)
    trainer.fit()
    again, heard_again = make_trainer(epochs=2)
    again.load_state_dict(heard.states[-1][1])
    result = again.fit()
    assert (result.reason, result.epochs) == ("epochs", 2)
    assert heard_again.records == []
