"""Averages of the weights: the recursion, what is validated and kept, the constraint."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from idl_cli.evaluation import evaluate
from idl_cli.models.convolutional.implicit_conv import ImplicitConv
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.rnn import ImplicitRNN
from idl_cli.training.weight_average import WeightAverage, kept_weights
from tests.training.helpers import CLASSES, CLASSIFICATION, FEATURES, make_trainer


def _weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def test_the_average_is_that_of_its_recursion() -> None:
    model = nn.Linear(3, 2).double()
    average = WeightAverage(model, 0.5)
    expected: list[Tensor] = []
    for count in range(20):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_()
        average.update(model)
        decay = min(0.5, (1 + count) / (10 + count)) if count else 0.0
        before = expected or _weights(model)
        expected = [
            decay * old + (1 - decay) * new
            for old, new in zip(before, _weights(model), strict=True)
        ]
    for parameter, value in zip(average.model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach(), value, rtol=1e-13, atol=1e-15)


def test_buffers_are_those_of_the_model() -> None:
    model = nn.BatchNorm1d(3)
    average = WeightAverage(model, 0.9)
    for _ in range(3):
        model(torch.randn(8, 3))
        average.update(model)
    assert average.model.state_dict()["running_mean"].equal(model.running_mean)


_SMALL: dict[str, Any] = {"input_dim": FEATURES, "output_dim": CLASSES}


@pytest.mark.parametrize(
    "make",
    [
        lambda: ImplicitModel(hidden_dim=30, kappa=0.7, **_SMALL),
        lambda: ImplicitModel(hidden_dim=30, kappa=0.7, rank=4, **_SMALL),
        lambda: ImplicitRNN(implicit_hidden_dim=30, hidden_dim=3, kappa=0.7, **_SMALL),
        lambda: ImplicitConv((6, 6), CLASSES, channels=[4, 6], stride=1, kappa=0.7),
    ],
    ids=["linf", "low rank", "rnn", "convolutions"],
)
def test_averages_of_feasible_weights_are_feasible(make: Any) -> None:
    """Every row at its bound: the average of such rows is beyond it by rounding alone."""
    torch.manual_seed(0)
    model = make()
    average = WeightAverage(model, 0.99)
    for _ in range(30):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model.constrain_()
        average.update(model)
    before = _weights(average._average.module)
    averaged = average.model
    # Stored rows, summed in float64: the bound itself, as after every step of a training.
    assert averaged.inf_norm_A() <= 0.7
    for stored, projected in zip(before, averaged.parameters(), strict=True):
        torch.testing.assert_close(projected, stored, rtol=1e-6, atol=0)


def test_averages_of_triangular_matrices_are_triangular() -> None:
    trainer, _ = make_trainer(
        model=ImplicitModel(hidden_dim=8, well_posedness="triangular", **_SMALL), ema=0.9
    )
    trainer.fit()
    A = trainer.evaluated_model.A
    assert isinstance(A, Tensor)
    assert A.tril().count_nonzero() == 0
    assert A.count_nonzero() > 0


def test_averages_of_sparse_weights_are_as_sparse() -> None:
    model = ImplicitModel(hidden_dim=8, **_SMALL)
    with torch.no_grad():
        model.A[torch.rand(8, 8) < 0.7] = 0
        model.B[:3] = 0
    zeros = {name: p.detach() == 0 for name, p in model.named_parameters()}
    trainer, _ = make_trainer(model=model, ema=0.9, keep_sparsity=True, lr=0.1)
    trainer.fit()
    for name, parameter in trainer.evaluated_model.named_parameters():
        if parameter.ndim == 2:
            assert (parameter == 0).equal(zeros[name]), name


def test_the_averaged_weights_are_validated_and_kept() -> None:
    trainer, listener = make_trainer(epochs=3, ema=0.98, lr=5e-2)
    result = trainer.fit()
    assert trainer.validation_loader is not None
    figures = evaluate(trainer.evaluated_model, trainer.validation_loader, CLASSIFICATION)
    row = listener.records[-1]
    assert row["split"] == "validation"
    assert figures == {key: row[key] for key in figures}
    assert figures != evaluate(trainer.model, trainer.validation_loader, CLASSIFICATION)
    best = [state for which, state in listener.states if which == "best"][-1]
    assert best["early_stopping"]["best_epoch"] == result.best_epoch
    kept = kept_weights(best)
    assert not kept["A"].equal(best["model"]["A"])
    model = ImplicitModel(FEATURES, CLASSES, 6)
    model.load_state_dict(kept)
    evaluated = evaluate(model, trainer.validation_loader, CLASSIFICATION)
    assert evaluated["accuracy"] == result.best_metric


def test_averages_do_not_change_the_steps() -> None:
    plain, _ = make_trainer()
    averaged, _ = make_trainer(ema=0.99)
    plain.fit()
    averaged.fit()
    for one, other in zip(_weights(plain.model), _weights(averaged.model), strict=True):
        assert one.equal(other)


def test_a_rollback_takes_the_average_back_too() -> None:
    trainer, _ = make_trainer(ema=0.9, on_nonfinite="rollback")
    assert trainer.average is not None
    trainer.recovery.remember()
    before = _weights(trainer.evaluated_model)
    trainer.step([next(iter(trainer.train_loader))])
    assert not _weights(trainer.evaluated_model)[0].equal(before[0])
    with pytest.warns(RuntimeWarning, match="half the learning rate"):
        trainer.recovery.failed("loss is nan", "epoch 1, step 2")
    for one, other in zip(_weights(trainer.evaluated_model), before, strict=True):
        assert one.equal(other)
    assert trainer.average.state_dict()["updates"] == 0
