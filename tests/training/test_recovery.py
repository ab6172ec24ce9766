import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from idl_cli.data.split import Split
from idl_cli.errors import NonFiniteError
from tests.training.helpers import CLASSIFICATION, Listener, make_trainer, samples

_BATCH = 8


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


def _trainer(bad_batches: list[int], **options: Any) -> tuple[Any, Listener]:
    """A training whose named batches hold a NaN; 6 batches an epoch, in order."""
    part = samples(CLASSIFICATION, 44)
    inputs = part.inputs.clone()
    for batch in bad_batches:
        inputs[batch * _BATCH] = math.nan
    return make_trainer(
        model=_model(),
        part=Split(inputs, part.targets),
        shuffle=False,
        validation=False,
        **{"epochs": 1, **options},
    )


def _weights(trainer: Any) -> Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def test_stop_says_where_and_what_to_do() -> None:
    trainer, _ = _trainer([3], on_nonfinite="stop")
    with pytest.raises(NonFiniteError, match=r"loss is nan.* epoch 1, step 4.*optimizer\.lr"):
        trainer.fit()
    assert torch.isfinite(_weights(trainer)).all()


def test_skip_leaves_out_the_step_and_nothing_else() -> None:
    """Skipping the only batch with NaN equals a training without that batch."""
    trainer, listener = _trainer([3], on_nonfinite="skip")
    with pytest.warns(RuntimeWarning, match="step 4: step skipped"):
        result = trainer.fit()
    assert result.skipped_steps == 1
    part = samples(CLASSIFICATION, 44)
    kept = torch.tensor([i for i in range(44) if i // _BATCH != 3])
    clean, heard = make_trainer(
        model=_model(), part=part.subset(kept), shuffle=False, validation=False, epochs=1
    )
    clean.fit()
    assert _weights(trainer).equal(_weights(clean))
    assert listener.records[0]["loss"] == heard.records[0]["loss"]


@pytest.mark.parametrize("mode", ["skip", "rollback"])
def test_running_statistics_know_nothing_of_a_step_that_was_left_out(mode: str) -> None:
    bad, part = [0] if mode == "rollback" else [3], samples(CLASSIFICATION, 44)
    states = []
    for batches in (bad, []):
        inputs = part.inputs.clone()
        for batch in batches:
            inputs[batch * _BATCH] = math.nan
        kept = [i for i in range(44) if batches or i // _BATCH not in bad]
        trainer, _ = make_trainer(
            model=nn.Sequential(nn.BatchNorm1d(4), _model()),
            part=Split(inputs, part.targets).subset(torch.tensor(kept)),
            shuffle=False,
            validation=False,
            epochs=1,
            on_nonfinite=mode,
        )
        if batches:
            with pytest.warns(RuntimeWarning, match="step"):
                trainer.fit()
        else:
            trainer.fit()
        states.append([buffer.clone() for buffer in trainer.model.buffers()])
    assert len(states[0]) == 3
    for found, expected in zip(*states, strict=True):
        assert found.equal(expected)


def test_skip_gives_up_when_nothing_is_learned() -> None:
    trainer, _ = _trainer([0, 1, 2, 3, 4, 5], on_nonfinite="skip", epochs=3)
    with (
        pytest.warns(RuntimeWarning, match="skipped"),
        pytest.raises(NonFiniteError, match="the 10th step in a row"),
    ):
        trainer.fit()


def test_rollback_returns_to_the_epochs_start_with_half_the_rate() -> None:
    trainer, listener = _trainer([2], on_nonfinite="rollback", lr=1e-2)
    start = _weights(trainer)
    seen: list[tuple[float, bool]] = []
    listener.on_step = lambda report: seen.append(  # type: ignore[method-assign]
        (trainer.scheduler.lr, bool(_weights(trainer).equal(start)))
    )
    with pytest.warns(RuntimeWarning, match="back to the start of the epoch"):
        result = trainer.fit()
    assert [back for _, back in seen] == [False, False, True, False, False, False]
    assert [rate for rate, _ in seen] == [1e-2, 1e-2, 5e-3, 5e-3, 5e-3, 5e-3]
    assert result.skipped_steps == 1


def test_rollback_restores_the_moments_too() -> None:
    trainer, listener = _trainer([2], on_nonfinite="rollback", optimizer="sgd")
    momenta: list[int] = []
    listener.on_step = lambda report: momenta.append(  # type: ignore[method-assign]
        sum("momentum_buffer" in s for s in trainer.optimizer.state.values())
    )
    with pytest.warns(RuntimeWarning, match="back to the start"):
        trainer.fit()
    assert momenta[1] > 0
    assert momenta[2] == 0, "at the start of the first epoch there are none"


def test_rollback_gives_up_after_five() -> None:
    trainer, _ = _trainer([0, 1, 2, 3, 4, 5], on_nonfinite="rollback")
    with (
        pytest.warns(RuntimeWarning, match="half the learning rate"),
        pytest.raises(NonFiniteError, match="after 5 rollbacks"),
    ):
        trainer.fit()


def test_an_infinite_gradient_is_caught_where_the_loss_is_finite() -> None:
    class Cliff(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: Tensor) -> Tensor:
            return value.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return gradient * math.inf

    class Model(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            return Cliff.apply(super().forward(inputs))

    trainer, _ = make_trainer(model=Model(4, 3))
    with pytest.raises(NonFiniteError, match=r"gradient norm is (inf|nan)"):
        trainer.fit()


def test_a_nan_within_an_accumulated_group_leaves_no_gradient_behind() -> None:
    trainer, _ = _trainer([1], on_nonfinite="skip", accumulate=2)
    with pytest.warns(RuntimeWarning, match="step 1: step skipped"):
        trainer.fit()
    assert torch.isfinite(_weights(trainer)).all()
    assert trainer.recovery.skipped == 1
