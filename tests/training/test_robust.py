from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from idl_cli.data.preprocessing import Preprocessing
from idl_cli.distributed.process import Interrupted
from idl_cli.errors import ArgumentError, ConfigError
from idl_cli.evaluation.attacks import Pgd
from idl_cli.models.explicit import MLP
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.interval import worst_logits
from idl_cli.training.batch_loss import BatchLoss
from idl_cli.training.losses import cross_entropy_sum
from idl_cli.training.options import GradientTrainerOptions
from idl_cli.training.robust.interval import Interval
from idl_cli.training.robust.settings import PerturbationSettings
from idl_cli.training.robust.training import Robustness
from idl_cli.training.settings import TrainerSettings
from tests.run.test_state import assert_same
from tests.training.helpers import (
    CLASSES,
    CLASSIFICATION,
    FEATURES,
    REGRESSION,
    make_trainer,
    samples,
    without_seconds,
)

SMALL: dict[str, Any] = {"epsilon": 0.05, "clean_epochs": 1.0, "ramp_epochs": 2.0}


# -- the schedule ----------------------------------------------------------------------------------


def test_epsilon_and_weight_rise_together() -> None:
    settings = PerturbationSettings(
        epsilon=0.2, train_factor=1.5, clean_epochs=1, ramp_epochs=4, clean_weight=0.25
    )
    stages = [settings.stage(epoch) for epoch in (0, 1, 2, 3.5, 5, 80)]
    assert [s.epsilon for s in stages] == pytest.approx([0, 0, 0.075, 0.1875, 0.3, 0.3])
    assert [s.clean_weight for s in stages] == pytest.approx([1, 1, 0.8125, 0.53125, 0.25, 0.25])
    at_once = PerturbationSettings(epsilon=0.2, clean_epochs=1, ramp_epochs=0)
    assert [at_once.stage(epoch).epsilon for epoch in (0.99, 1.0)] == [0, 0.2]


@pytest.mark.parametrize(
    "wrong",
    [{"epsilon": -0.1}, {"clean_weight": 1.1}, {"ramp_epochs": -1}, {"attack_steps": 0}],
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        PerturbationSettings(**wrong)


# -- the loss --------------------------------------------------------------------------------------


def test_the_loss_is_the_mixture_at_epsilon_in_the_datas_unit() -> None:
    """Bytes, normalised by channel: ε is in pixels, the range is that of bytes."""
    torch.manual_seed(0)
    raw = torch.randint(0, 256, (12, 2, 3), generator=torch.Generator().manual_seed(1))
    labels = torch.arange(12) % CLASSES
    preprocessing = Preprocessing("channel", (2, 3), 255.0, (1, 1), (0.3,), (0.25,))
    model = ImplicitModel(6, CLASSES, 5, kappa=0.5)
    settings = PerturbationSettings(
        epsilon=0.1, clean_epochs=0, ramp_epochs=0, clean_weight=0.25, train_factor=1.2
    )
    robustness = Robustness(Interval(), "certified_accuracy", settings, preprocessing)
    module = BatchLoss(model, cross_entropy_sum, TrainerSettings(), robustness)
    inputs = preprocessing(raw)
    outputs, total, weight, standing = module(inputs, labels, 0.0)

    pixels = raw / 255
    low = ((pixels - 0.12).clamp(min=0) - 0.3) / 0.25
    high = ((pixels + 0.12).clamp(max=1) - 0.3) / 0.25
    worst = worst_logits(model, low, high, labels)
    clean = nn.functional.cross_entropy(model(inputs), labels, reduction="sum")
    bad = nn.functional.cross_entropy(worst, labels, reduction="sum")
    # The ends are rounded once more here than there.
    torch.testing.assert_close(total, 0.25 * clean + 0.75 * bad, rtol=1e-5, atol=1e-5)
    assert weight.item() == 12
    others = worst.scatter(1, labels[:, None], -torch.inf).amax(1)
    assert standing.item() == (others < 0).sum().item()
    assert outputs.equal(model(inputs))


@pytest.mark.parametrize("robust", ["interval", "adversarial"])
def test_the_clean_epochs_are_those_of_a_plain_training(robust: str) -> None:
    plain, _ = make_trainer(epochs=2)
    other, _ = make_trainer(epochs=2, robust=robust, perturbation={"clean_epochs": 2.0})
    plain.fit()
    other.fit()
    assert_same(other.model.state_dict(), plain.model.state_dict())


# -- trainings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("robust", ["interval", "adversarial"])
def test_a_robust_training_is_more_robust_and_keeps_its_constraint(robust: str) -> None:
    perturbation = {"epsilon": 0.15, "clean_epochs": 1, "ramp_epochs": 8, "attack_steps": 2}
    usual: dict[str, Any] = {"epochs": 14, "count": 120, "lr": 5e-2, "batch_size": 40}
    plain, _ = make_trainer(**usual)
    trainer, listener = make_trainer(**usual, robust=robust, perturbation=perturbation)
    plain.fit()
    trainer.fit()
    assert isinstance(trainer.model, ImplicitModel)
    assert trainer.model.inf_norm_A() <= trainer.model.kappa

    name = "certified_accuracy" if robust == "interval" else "attacked_accuracy"
    train = [row for row in listener.records if row["split"] == "train"]
    checked = [row for row in listener.records if row["split"] == "validation"]
    assert [row["epsilon"] for row in train[:2]] == pytest.approx([0.0, 0.15 / 8])
    assert train[-1]["epsilon"] == 0.15
    assert train[-1]["clean_weight"] == 0
    assert all(row["epsilon"] == 0.15 for row in checked)
    for row in listener.records:
        assert float(row[name]) <= float(row["accuracy"]) + (row["split"] == "train")
    assert trainer.early_stopping.metric == name
    assert trainer.early_stopping.best == max(float(row[name]) for row in checked)

    assert trainer.robustness is not None
    part = trainer.validation_loader
    assert part is not None
    measured = [trainer.robustness.measure(t.model, part, t.group)[name] for t in (plain, trainer)]
    assert measured[0] < measured[1]


def test_no_attack_breaks_what_intervals_certify() -> None:
    trainer, _ = make_trainer(epochs=6, robust="interval", perturbation=SMALL, lr=2e-2)
    trainer.fit()
    part = samples(CLASSIFICATION, 60, seed=3)
    assert trainer.robustness is not None
    for epsilon in (0.0, 0.05, 0.2):
        worst = trainer.robustness.worst_logits(trainer.model, part.inputs, part.targets, epsilon)
        certified = worst.scatter(1, part.targets[:, None], -1e9).amax(1) < 0
        broken = Pgd()(trainer.model, part.inputs, part.targets, epsilon).broken
        assert not bool((certified & broken).any())
        if epsilon == 0:
            assert bool((certified == ~broken).all())
        else:
            assert certified.any()


def test_networks_are_trained_alike() -> None:
    trainer, listener = make_trainer(
        model=MLP((FEATURES,), CLASSES, hidden_dims=(8,)),
        epochs=8,
        lr=2e-2,
        robust="interval",
        perturbation=SMALL,
    )
    trainer.fit()
    assert float(listener.records[-1]["certified_accuracy"]) > 0.5


@pytest.mark.parametrize("stop_at", [2, 9])
def test_a_stopped_certified_training_continues_to_the_bit(stop_at: int) -> None:
    options: dict[str, Any] = {"epochs": 3, "robust": "interval", "perturbation": SMALL}
    whole, heard = make_trainer(**options)
    whole.fit()
    first, heard_first = make_trainer(**options)
    first.interrupted = lambda: 2 if first.progress.step == stop_at else None
    with pytest.raises(Interrupted):
        first.fit()
    second, heard_second = make_trainer(**options)
    second.load_state_dict(copy.deepcopy(heard_first.states[-1][1]))
    second.fit()
    assert_same(without_seconds(second.state_dict()), without_seconds(whole.state_dict()))
    together = [*heard_first.records, *heard_second.records]
    assert without_seconds(together) == without_seconds(heard.records)


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"model": nn.Linear(FEATURES, CLASSES)}, "trainer.robust=interval: Linear is neither"),
        (
            {"model": ImplicitModel(FEATURES, CLASSES, 6, activation="silu", kappa=0.5)},
            "trainer.robust=interval: activation=silu is not monotone",
        ),
        ({"task": REGRESSION}, "trainer.robust=interval: the data set has no classes"),
    ],
)
def test_what_cannot_be_certified_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        make_trainer(robust="interval", **options)


def test_a_metric_that_a_plain_training_has_not_is_refused() -> None:
    with pytest.raises(ArgumentError, match="metric=certified_accuracy: a classification has"):
        make_trainer(early_stopping={"metric": "certified_accuracy"})


@pytest.mark.parametrize("key", ["mixup", "cutmix"])
def test_mixed_samples_have_no_class_to_defend(key: str) -> None:
    options = GradientTrainerOptions(robust="interval", **{key: 0.2})  # type: ignore[arg-type]
    (problem,) = options.problems()
    assert problem.startswith(f"{key}=0.2: a mixed sample has no one class")
    assert not [*GradientTrainerOptions(**{key: 0.2}).problems()]  # type: ignore[arg-type]


def test_bounds_are_those_of_all_states() -> None:
    model = ImplicitModel(FEATURES, CLASSES, 6, dropout=0.1)
    assert "model.dropout=0.1" in str(Interval().problem(model))
