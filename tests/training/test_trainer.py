import copy
import math
import shutil
import time
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from idl_cli.data.split import Split
from idl_cli.errors import ArgumentError, ConvergenceWarning, UnsupportedModelError
from idl_cli.evaluation import evaluate
from idl_cli.models.implicit import ImplicitModel
from idl_cli.training.losses import cross_entropy_sum
from tests.training.helpers import (
    CLASSES,
    CLASSIFICATION,
    FEATURES,
    REGRESSION,
    loader,
    make_trainer,
    samples,
    without_seconds,
)


def _weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_two_runs_of_one_seed_are_the_same_to_the_bit() -> None:
    runs = []
    for _ in range(2):
        trainer, listener = make_trainer()
        trainer.fit()
        runs.append((_weights(trainer.model), without_seconds(listener.records)))
    assert runs[0][0].equal(runs[1][0])
    assert runs[0][1] == runs[1][1]


@pytest.mark.parametrize("task", [CLASSIFICATION, REGRESSION])
def test_it_learns(task: Any) -> None:
    trainer, listener = make_trainer(task, epochs=25, lr=3e-2, count=200)
    result = trainer.fit()
    assert (result.reason, result.epochs, result.steps) == ("epochs", 25, 25 * 25)
    validation = [r for r in listener.records if r["split"] == "validation"]
    metric = "accuracy" if task is CLASSIFICATION else "r2"
    # The targets are a linear function of the inputs: chance is 1/3, or 0.
    assert float(validation[-1][metric]) > 0.85
    assert result.best_metric == (max if task is CLASSIFICATION else min)(
        float(r["accuracy" if task is CLASSIFICATION else "loss"]) for r in validation
    )


def test_a_row_holds_what_is_promised() -> None:
    trainer, listener = make_trainer(epochs=2)
    trainer.fit()
    promised = {
        "step", "epoch", "split", "loss", "accuracy", "iterations_mean", "iterations_max",
        "unconverged_share", "residual_max", "inf_norm_A", "lr", "seconds",
    }  # fmt: skip
    for record in listener.records:
        assert promised <= record.keys()
    assert [(r["epoch"], r["step"], r["split"]) for r in listener.records] == [
        (1, 6, "train"),
        (1, 6, "validation"),
        (2, 12, "train"),
        (2, 12, "validation"),
    ]
    assert "backward_iterations_mean" in listener.records[0]
    assert all(float(r["inf_norm_A"]) <= 0.95 for r in listener.records)


def test_a_training_row_says_where_the_time_went() -> None:
    trainer, listener = make_trainer(epochs=2)
    trainer.fit()
    for row in (record for record in listener.records if record["split"] == "train"):
        parts = [float(row[f"{part}_seconds"]) for part in ("equilibrium", "adjoint", "data")]
        assert all(part > 0 for part in parts)
        assert sum(parts) < float(row["seconds"])
        assert float(row["samples_per_second"]) * float(row["seconds"]) == pytest.approx(44)


def test_the_validation_row_is_that_of_the_evaluation() -> None:
    trainer, listener = make_trainer(epochs=1)
    trainer.fit()
    assert trainer.validation_loader is not None
    figures = evaluate(trainer.model, trainer.validation_loader, CLASSIFICATION)
    row = listener.records[1]
    assert figures == {key: row[key] for key in figures}


def test_the_first_step_is_that_of_plain_torch() -> None:
    """One batch, sgd: w - lr × gradient of the mean loss, then the projection."""
    trainer, _ = make_trainer(
        optimizer="sgd",
        optimizer_options={"momentum": 0.0},
        lr=0.1,
        batch_size=44,
        epochs=1,
        clip_norm=None,
        dtype=torch.float64,
        validation=False,
    )
    model = copy.deepcopy(trainer.model)
    assert isinstance(model, ImplicitModel)
    trainer.fit()
    part = samples(CLASSIFICATION, 44)
    nn.CrossEntropyLoss()(model(part.inputs.double()), part.targets).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter -= 0.1 * parameter.grad
        model.constrain_()
    # The batch comes shuffled, and equilibria stop at a residual of 1e-5: sums in another order.
    torch.testing.assert_close(_weights(trainer.model), _weights(model), rtol=0, atol=1e-6)


@pytest.mark.parametrize("class_weights", [None, (1.0, 4.0, 0.5)])
def test_accumulated_batches_equal_one_big_batch(class_weights: Any) -> None:
    """22 samples as 8 + 8 + 6 in one step: the mean over samples, not over batches."""
    settings: dict[str, Any] = {
        "count": 22,
        "epochs": 4,
        "dtype": torch.float64,
        "shuffle": False,
        "class_weights": class_weights,
        "label_smoothing": 0.1,
        "model": None,
    }
    tight = {"tol": 1e-13}
    big_model, small_model = (
        ImplicitModel(FEATURES, CLASSES, 6, forward=tight, backward=tight) for _ in range(2)
    )
    small_model.load_state_dict(big_model.state_dict())
    big, _ = make_trainer(**{**settings, "model": big_model}, batch_size=22)
    small, listener = make_trainer(**{**settings, "model": small_model}, batch_size=8, accumulate=3)
    assert small.steps_per_epoch == 1
    big.fit()
    small.fit()
    # float64, solves to 1e-13: only the order of summation differs.
    torch.testing.assert_close(_weights(small.model), _weights(big.model), rtol=0, atol=1e-10)
    assert listener.records[-2]["step"] == 4


def test_a_last_group_may_hold_fewer_batches() -> None:
    trainer, listener = make_trainer(count=44, batch_size=8, accumulate=4, epochs=2)
    trainer.fit()
    assert trainer.steps_per_epoch == 2
    assert [report.batch for report in listener.reports] == [4, 6, 4, 6]


def test_clipping_bounds_the_whole_gradient() -> None:
    norms = {}
    for limit in (None, 1e-3):
        trainer, _ = make_trainer(
            optimizer="sgd",
            optimizer_options={"momentum": 0.0},
            lr=1.0,
            epochs=1,
            count=8,
            clip_norm=limit,
            validation=False,
        )
        before = _weights(trainer.model)
        trainer.model.constrain_ = lambda: None  # type: ignore[assignment, operator]
        trainer.fit()
        norms[limit] = (_weights(trainer.model) - before).norm().item()
    assert norms[None] > 1e-2
    assert norms[1e-3] == pytest.approx(1e-3, rel=1e-3)


def test_the_constraint_holds_after_every_step() -> None:
    norms = []
    trainer, listener = make_trainer(lr=0.3, optimizer="sgd", epochs=3, clip_norm=None)
    assert isinstance(trainer.model, ImplicitModel)
    model = trainer.model
    listener.on_step = lambda report: norms.append(  # type: ignore[method-assign]
        model.A.detach().double().abs().sum(dim=1).max().item()
    )
    trainer.fit()
    assert max(norms) <= 0.95
    assert max(norms) > 0.94, "the bound was never active: the test shows nothing"


def test_early_stopping_ends_the_training() -> None:
    trainer, listener = make_trainer(
        epochs=50, lr=1e-12, early_stopping={"patience": 3, "metric": "accuracy"}
    )
    result = trainer.fit()
    assert result.reason == "early_stopping"
    assert result.epochs == 4
    assert result.best_epoch is not None
    assert [which for which, _ in listener.states].count("last") == 4


def test_best_checkpoint_holds_the_best_epochs_weights() -> None:
    trainer, listener = make_trainer(epochs=6, lr=0.05)
    result = trainer.fit()
    bests = [state for which, state in listener.states if which == "best"]
    assert bests[-1]["progress"]["epoch"] == result.best_epoch
    lasts = [state for which, state in listener.states if which == "last"]
    assert result.best_epoch is not None
    assert bests[-1]["model"]["A"].equal(lasts[result.best_epoch - 1]["model"]["A"])


def test_without_validation_nothing_is_best() -> None:
    trainer, listener = make_trainer(validation=False)
    result = trainer.fit()
    assert result.best_epoch is None
    assert {which for which, _ in listener.states} == {"last"}
    assert {r["split"] for r in listener.records} == {"train"}


def test_max_time_stops_at_a_step_and_the_rest_can_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = make_trainer(epochs=2)
    whole.fit()
    clock = _Clock(monkeypatch)
    trainer, listener = make_trainer(epochs=2, max_time=3.5)
    listener.on_step = lambda report: clock.advance(1.0)  # type: ignore[method-assign]
    result = trainer.fit()
    assert (result.reason, result.epochs, result.steps) == ("max_time", 0, 4)
    assert [which for which, _ in listener.states] == ["last"]
    monkeypatch.undo()
    rest, _ = make_trainer(epochs=2)
    rest.load_state_dict(listener.states[-1][1])
    assert rest.fit().reason == "epochs"
    assert _weights(rest.model).equal(_weights(whole.model))


def test_max_time_at_the_end_of_an_epoch_still_validates(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Clock(monkeypatch)
    trainer, listener = make_trainer(epochs=3, max_time=5.5)  # an epoch has 6 steps
    listener.on_step = lambda report: clock.advance(1.0)  # type: ignore[method-assign]
    result = trainer.fit()
    assert (result.reason, result.epochs, result.steps) == ("max_time", 1, 6)
    assert [r["split"] for r in listener.records] == ["train", "validation"]


class _Clock:
    """A clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self._now)

    def advance(self, seconds: float) -> None:
        self._now += seconds


def test_zeros_are_kept_to_the_bit() -> None:
    torch.manual_seed(3)
    model = ImplicitModel(FEATURES, CLASSES, 6)
    with torch.no_grad():
        for parameter in (model.A, model.B, model.C):
            parameter[torch.rand_like(parameter) < 0.5] = 0.0
        assert model.state_bias is not None
        model.state_bias.zero_()
    zeros = {name: p.detach() == 0 for name, p in model.named_parameters()}
    trainer, _ = make_trainer(model=model, optimizer="adamw", lr=0.05, epochs=3, keep_sparsity=True)
    trainer.fit()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            assert parameter.detach()[zeros[name]].view(torch.int32).eq(0).all(), "+0 to the bit"
            assert (parameter.detach()[~zeros[name]] != 0).any()
    assert (model.state_bias.detach() != 0).any(), "biases are free"
    dense, _ = make_trainer(model=model, lr=0.05, epochs=1)
    dense.fit()
    assert (model.A.detach()[zeros["A"]] != 0).any(), "without the option zeros fill up"


def test_masked_entries_do_not_count_for_clipping() -> None:
    """The gradient is masked before its norm is taken."""
    steps = {}
    for keep in (False, True):
        torch.manual_seed(3)
        model = ImplicitModel(FEATURES, CLASSES, 6)
        with torch.no_grad():
            model.C.zero_()
        trainer, _ = make_trainer(
            model=model,
            optimizer="sgd",
            optimizer_options={"momentum": 0.0},
            lr=1.0,
            count=8,
            epochs=1,
            clip_norm=1e-3,
            keep_sparsity=keep,
            validation=False,
        )
        before = _weights(model)
        trainer.fit()
        steps[keep] = (_weights(model) - before).norm().item()
    assert steps[True] == pytest.approx(1e-3, rel=1e-3)
    assert steps[False] == pytest.approx(1e-3, rel=1e-3)


def test_class_weights_of_zero_leave_a_class_out() -> None:
    """A batch of that class alone makes a step without gradient, and the records stay numbers."""
    part = samples(CLASSIFICATION, 44)
    inputs, targets = part.inputs, torch.zeros_like(part.targets)
    trainer, _ = make_trainer(
        part=Split(inputs, targets), class_weights=(0.0, 1.0, 1.0), epochs=1, validation=False
    )
    before = _weights(trainer.model)
    trainer.fit()
    assert _weights(trainer.model).equal(before)
    assert trainer.recovery.skipped == 0


def test_own_objectives_stand_beside_the_tasks_loss() -> None:
    trainer, listener = make_trainer(epochs=1, batch_size=44, label_smoothing=0.2)
    model = copy.deepcopy(trainer.model)
    trainer.fit()
    part = samples(CLASSIFICATION, 44)
    with torch.no_grad():
        outputs = model(part.inputs)
    smooth, weight = cross_entropy_sum(outputs, part.targets, label_smoothing=0.2)
    plain, _ = cross_entropy_sum(outputs, part.targets)
    row = listener.records[0]
    assert row["objective"] == pytest.approx((smooth / weight).item(), rel=1e-5)  # float32 sums
    assert row["loss"] == pytest.approx((plain / weight).item(), rel=1e-5)
    assert "objective" not in listener.records[1]
    assert "objective" not in make_and_fit_records()[0]


def make_and_fit_records() -> list[dict[str, Any]]:
    trainer, listener = make_trainer(epochs=1)
    trainer.fit()
    return listener.records


def test_unconverged_equilibria_are_reported_once_a_pass() -> None:
    model = ImplicitModel(FEATURES, CLASSES, 6, forward={"max_iter": 1}, backward={"max_iter": 1})
    trainer, listener = make_trainer(model=model, epochs=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit()
    texts = [str(w.message) for w in caught if w.category is ConvergenceWarning]
    forward = [text for text in texts if "equilibria did not converge" in text]
    assert [text.split(":")[0] for text in forward] == [
        "epoch 1, training", "epoch 1, validation", "epoch 2, training", "epoch 2, validation",
    ]  # fmt: skip
    assert len(texts) == 6, "and two of the adjoint"
    assert " of 44 " in forward[0]
    assert "largest residual" in forward[0]
    assert float(listener.records[0]["unconverged_share"]) > 0
    assert model.solve_statistics.warn, "afterwards the model warns by itself again"


class _Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(FEATURES, FEATURES)
        self.second = nn.Linear(FEATURES, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.second(self.first(inputs).detach())


def test_parameters_that_no_gradient_reaches_are_named() -> None:
    trainer, _ = make_trainer(model=_Detached())
    with pytest.raises(UnsupportedModelError, match=r"no gradient reaches first\.weight, first\.b"):
        trainer.fit()
    frozen = _Detached()
    frozen.first.requires_grad_(False)
    trainer, _ = make_trainer(model=frozen, epochs=1)
    trainer.fit()


def test_any_module_can_be_trained() -> None:
    model = nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, CLASSES))
    trainer, listener = make_trainer(model=model, epochs=1)
    trainer.fit()
    assert "inf_norm_A" not in listener.records[0]
    assert "iterations_mean" not in listener.records[0]


def test_mixed_precision_keeps_weights_and_equilibria_in_float32() -> None:
    model = ImplicitModel(FEATURES, CLASSES, 6)
    trainer, listener = make_trainer(model=model, epochs=15, lr=3e-2, count=200, precision="bf16")
    outputs: list[torch.dtype] = []
    handle = model.register_forward_hook(
        lambda module, inputs, output: outputs.append(output.dtype) if module.training else None
    )
    trainer.fit()
    handle.remove()
    assert set(outputs) == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    rows = [r for r in listener.records if r["split"] == "train"]
    # bfloat16 keeps 8 bits: an equilibrium iterated in it could not come below 1e-3.
    assert all(float(r["residual_max"]) <= 1e-5 for r in rows)
    assert float(listener.records[-1]["accuracy"]) > 0.85


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("c++") is None, reason="torch.compile needs a C++ compiler on the CPU"
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch's own
def test_a_compiled_model_trains_to_the_same_weights() -> None:
    settings: dict[str, Any] = {"count": 40, "epochs": 3, "validation": False}
    compiled, _ = make_trainer(compile=True, **settings)
    eager, _ = make_trainer(**settings)
    compiled.fit()
    eager.fit()
    # The same float32 operations, fused differently, over 15 steps.
    torch.testing.assert_close(_weights(compiled.model), _weights(eager.model), rtol=0, atol=1e-4)
    assert list(compiled.state_dict()["model"]) == list(eager.state_dict()["model"])


def test_train_and_evaluation_modes() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(FEATURES, CLASSES))
    seen: list[bool] = []
    model.register_forward_hook(lambda module, *_: seen.append(module.training))
    trainer, _ = make_trainer(model=model, epochs=2, count=8)
    trainer.fit()
    assert seen == [True, False, False, False] * 2


def test_an_augmentation_sees_the_training_batches_alone() -> None:
    keys: list[Any] = []

    def augment(inputs: Tensor, key: Any, *, first: int = 0) -> Tensor:
        keys.append(tuple(key))
        return inputs.flip(1)

    trainer, _ = make_trainer(epochs=2, count=16)
    trainer.train_loader = loader(samples(CLASSIFICATION, 16), 8, augmentation=augment)
    trainer.fit()
    assert keys == [(5, 0, 0), (5, 0, 1), (5, 1, 0), (5, 1, 1)]


def test_a_metric_of_the_other_task_is_refused() -> None:
    with pytest.raises(ArgumentError, match="r2"):
        make_trainer(early_stopping={"metric": "r2"})


def test_losses_are_means_over_samples() -> None:
    """Batches of 8, 8 and 4: the row's loss is the mean over 20 samples."""
    trainer, listener = make_trainer(count=20, epochs=1, lr=1e-30, shuffle=False)
    part = samples(CLASSIFICATION, 20)
    with torch.no_grad():
        expected = nn.CrossEntropyLoss()(trainer.model(part.inputs), part.targets).item()
    trainer.fit()
    assert listener.records[0]["loss"] == pytest.approx(expected, rel=1e-6)
    assert not math.isnan(listener.reports[0].loss)


def test_mixed_samples_count_by_the_class_of_the_larger_share() -> None:
    """Nothing is learned at this rate: accuracy and objective are those of the mixed batches."""
    trainer, listener = make_trainer(
        mixup=0.5, lr=1e-12, epochs=1, dtype=torch.float64, label_smoothing=0.1
    )
    batches = list(trainer.train_loader)
    trainer.fit()
    right, objective = 0, 0.0
    for inputs, targets in batches:
        outputs = trainer.model(inputs).detach()
        right += int((outputs.argmax(dim=1) == targets.argmax(dim=1)).sum())
        smooth = 0.9 * targets + 0.1 / CLASSES
        objective -= float((smooth * outputs.log_softmax(dim=1)).sum())
    row = listener.records[0]
    assert row["accuracy"] == pytest.approx(right / 44)
    assert row["objective"] == pytest.approx(objective / 44, rel=1e-9)
