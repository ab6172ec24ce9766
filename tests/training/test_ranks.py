"""Several ranks make the steps of one process, and decide alike."""

from __future__ import annotations

import copy
import math
import shutil
import signal
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from idl_cli.distributed.group import Group
from idl_cli.distributed.process import Interrupted
from idl_cli.errors import IdlError
from idl_cli.evaluation import evaluate
from idl_cli.models.base import TrainableModel
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.rnn import ImplicitRNN
from idl_cli.models.sequence_baselines import LSTM, MatchedMLP, Transformer
from idl_cli.training.rng_state import seed_everything, seed_rank
from tests.run.test_state import assert_same
from tests.training.helpers import (
    CLASSES,
    CLASSIFICATION,
    FEATURES,
    REGRESSION,
    SEQUENCES,
    NoisyModel,
    loader,
    make_trainer,
    samples,
    without_seconds,
)
from tests.training.ranks import Ranks


def _make_model(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "rnn":
        # Whole batches are solved together, and parts of them to other residuals.
        tight = {"tol": 1e-12}
        return ImplicitRNN(2, CLASSES, 5, 4, forward=tight, backward=tight)
    if name == "lstm":
        return LSTM(2, CLASSES, 5)
    if name == "transformer":
        return Transformer(2, CLASSES, 4)
    if name == "mlp":
        return MatchedMLP(FEATURES, CLASSES, hidden_dims=(5,))
    if name == "low rank":
        return ImplicitModel(FEATURES, CLASSES, 6, rank=2)
    if name == "unused":
        return _WithUnusedWeight()
    return NoisyModel(CLASSES)


class _WithUnusedWeight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(FEATURES, CLASSES)
        self.unused = nn.Linear(FEATURES, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.used(inputs)


def _train(
    group: Group,
    options: Mapping[str, Any],
    *,
    model: str | None = None,
    state: Mapping[str, Any] | None = None,
    nan_at: Sequence[int] = (),
    stop: tuple[int, int, int] | None = None,
    late_rank: int | None = None,
) -> dict[str, Any]:
    """Train on a rank, as a function that other processes can be asked to call.

    Args:
        group: of the ranks.
        options: of ``make_trainer``.
        model: name of another model than the small implicit one.
        state: to continue from.
        nan_at: samples whose inputs are NaN.
        stop: rank, signal and step after which it comes there.
        late_rank: the rank whose time is up at once.
    """
    options = {"dtype": torch.float64, "count": 41, "epochs": 2, **options}
    if model is not None:
        options["model"] = _make_model(model)
    if nan_at:
        options["part"] = samples(CLASSIFICATION, options["count"])
        options["part"].inputs[list(nan_at)] = math.nan
    if group.rank == late_rank:
        options["max_time"] = 1e-9
    trainer, listener = make_trainer(group=group, **options)
    seed_everything(1)
    seed_rank(1, group.rank)
    if stop is not None:
        rank, number, step = stop
        trainer.interrupted = lambda: (
            number if group.rank == rank and trainer.progress.step >= step else None
        )
    if state is not None:
        # Tensors come from another process in memory that both share.
        trainer.load_state_dict(copy.deepcopy(state))
    outcome: object
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            outcome = trainer.fit().reason
        except Interrupted as interrupt:
            outcome = interrupt.signal
        except IdlError as error:
            outcome = f"{type(error).__name__}: {error}"
    return {
        "weights": torch.cat([p.detach().flatten() for p in trainer.model.parameters()]),
        "norm": trainer.model.inf_norm_A() if isinstance(trainer.model, TrainableModel) else None,
        "records": without_seconds(listener.records),
        "losses": [report.loss for report in listener.reports],
        "step": trainer.progress.step,
        "skipped": trainer.recovery.skipped,
        "outcome": outcome,
        "last": next(
            (state for which, state in reversed(listener.states) if which == "last"), None
        ),
        "warnings": [str(each.message) for each in caught],
    }


def _on_ranks(ranks: Ranks, count: int, options: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Train on ranks, see that all hold the same to the bit, and return the first one's result."""
    results = ranks.run(count, _train, options, **more)
    first = results[0]
    for other in results[1:]:
        assert other["weights"].equal(first["weights"])
        for shared in ("records", "losses", "step", "skipped", "outcome", "norm"):
            assert _same(other[shared], first[shared]), shared
    return first


def _same(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)  # NaN equals itself here


def _assert_close(several: Mapping[str, Any], one: Mapping[str, Any], tolerance: float) -> None:
    torch.testing.assert_close(several["weights"], one["weights"], rtol=0, atol=tolerance)
    assert several["losses"] == pytest.approx(one["losses"], abs=tolerance, nan_ok=True)
    assert len(several["records"]) == len(one["records"])
    for record, expected in zip(several["records"], one["records"], strict=True):
        assert record.keys() == expected.keys()
        for key, value in expected.items():
            # Residuals are differences of rounded states: equal in size, not in every digit.
            assert record[key] == (
                value
                if isinstance(value, str)
                else pytest.approx(value, rel=1e-4, abs=tolerance, nan_ok=True)
            ), key


# -- the same steps -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "options"),
    [
        # 41 = 5 batches of 8 and one of 1: fewer samples than ranks.
        (2, {"scheduler": "cosine"}),
        (3, {"optimizer": "sgd", "lr": 0.3, "clip_norm": 1e-1}),
        (2, {"accumulate": 4, "class_weights": (1.0, 4.0, 0.5), "label_smoothing": 0.1}),
        (3, {"task": REGRESSION, "accumulate": 2, "optimizer": "adamw"}),
        (3, {"ema": 0.9, "mixup": 1.0, "label_smoothing": 0.1}),
    ],
)
def test_ranks_make_the_steps_of_one_process(
    ranks: Ranks, count: int, options: dict[str, Any]
) -> None:
    one = _train(Group.single(), options)
    several = _on_ranks(ranks, count, options)
    _assert_close(several, one, 1e-9)  # float64: sums in another order, and moments of them
    assert several["outcome"] == one["outcome"] == "epochs"


def test_certified_trainings_make_the_steps_of_one_process(ranks: Ranks) -> None:
    """Iterations may differ: when states are looked at depends on the samples beside them."""
    options = {"robust": "interval", "perturbation": {"clean_epochs": 0.5, "ramp_epochs": 1.0}}
    one = _train(Group.single(), options)
    several = _on_ranks(ranks, 3, options)
    torch.testing.assert_close(several["weights"], one["weights"], rtol=0, atol=1e-9)
    for record, expected in zip(several["records"], one["records"], strict=True):
        for key in ("epsilon", "certified_accuracy", "accuracy", "loss"):
            assert record[key] == pytest.approx(expected[key], abs=1e-9), key


def test_losses_agree_to_1e_5_in_single_precision(ranks: Ranks) -> None:
    options = {"dtype": torch.float32, "count": 123, "batch_size": 16}
    one = _train(Group.single(), options)
    several = _on_ranks(ranks, 2, options)
    assert several["losses"] == pytest.approx(one["losses"], abs=1e-5)


@pytest.mark.parametrize("model", ["rnn", "lstm", "transformer", "mlp", "low rank"])
def test_every_kind_of_model_trains_on_ranks(ranks: Ranks, model: str) -> None:
    """Batches of 8, 8 and 1 on three ranks: two of them have no sample of the last."""
    task = SEQUENCES if model in ("rnn", "lstm", "transformer") else CLASSIFICATION
    options = {"task": task, "count": 17, "epochs": 1}
    one = _train(Group.single(), options, model=model)
    several = _on_ranks(ranks, 3, options, model=model)
    if model == "rnn":  # the steps of all samples in a batch are solved together
        for record in (*one["records"], *several["records"]):
            for key in [key for key in record if "iterations" in key or "residual" in key]:
                del record[key]
    _assert_close(several, one, 1e-9)


def test_the_projection_is_the_same_on_all_ranks(ranks: Ranks) -> None:
    result = _on_ranks(ranks, 2, {"optimizer": "sgd", "lr": 20.0, "clip_norm": None})
    assert 0.95 * (1 - 1e-9) < result["norm"] <= 0.95


@pytest.mark.skipif(
    shutil.which("c++") is None, reason="torch.compile needs a C++ compiler on the CPU"
)
def test_a_compiled_model_trains_on_ranks(ranks: Ranks) -> None:
    options = {"epochs": 1, "count": 16, "compile": True}
    one = _train(Group.single(), {**options, "compile": False})
    _assert_close(_on_ranks(ranks, 2, options), one, 1e-9)


def test_mixed_precision_trains_on_ranks(ranks: Ranks) -> None:
    options = {"dtype": torch.float32, "precision": "bf16"}
    one = _train(Group.single(), options)
    several = _on_ranks(ranks, 2, options)
    # bfloat16 keeps 8 bits; products of half a batch round as those of the whole batch nearly do.
    assert several["losses"] == pytest.approx(one["losses"], abs=2e-2)


def test_ranks_draw_dropout_of_their_own(ranks: Ranks) -> None:
    states = ranks.run(3, _random_numbers)
    assert states[0].equal(_random_numbers(Group.single()))  # the first as a single process
    assert not states[1].equal(states[0])
    assert not states[2].equal(states[1])


def _random_numbers(group: Group) -> Tensor:
    seed_everything(7)
    seed_rank(7, group.rank)
    return torch.rand(4)


# -- evaluation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [CLASSIFICATION, REGRESSION])
@pytest.mark.parametrize("count", [2, 41])
def test_an_evaluation_counts_every_sample_once(ranks: Ranks, task: Any, count: int) -> None:
    one = _evaluate(Group.single(), task, count)
    several = ranks.run(3, _evaluate, task, count)
    assert several[1] == several[2] == several[0]
    assert several[0] == pytest.approx(one, rel=1e-12, abs=1e-12)
    assert several[0]["iterations_max"] == one["iterations_max"]


def _evaluate(group: Group, task: Any, count: int) -> dict[str, float]:
    torch.manual_seed(3)
    # Solved beyond what the test resolves, so that the last bits of a residual do not show in it.
    model = ImplicitModel(FEATURES, task.output_dim, 6, forward={"max_iter": 3}).double()
    model.solve_statistics.warn = False
    part = samples(task, count)
    batches = loader(part, 8, shuffle=False, dtype=torch.float64, rank=group.rank, ranks=group.size)
    figures = evaluate(model, batches, task, group=group)
    assert figures["unconverged_share"] > 0
    return figures


# -- decisions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["skip", "rollback"])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_ranks_leave_out_the_same_steps(ranks: Ranks, mode: str, accumulate: int) -> None:
    """One sample is NaN, and one rank alone has it."""
    options = {"on_nonfinite": mode, "accumulate": accumulate}
    one = _train(Group.single(), options, nan_at=[11])
    several = _on_ranks(ranks, 2, options, nan_at=[11])
    assert several["skipped"] == one["skipped"] == 2
    _assert_close(several, one, 1e-9)


def test_ranks_stop_at_the_same_loss_that_is_no_number(ranks: Ranks) -> None:
    one = _train(Group.single(), {}, nan_at=[11])
    several = _on_ranks(ranks, 3, {}, nan_at=[11])
    assert several["outcome"] == one["outcome"]
    assert several["outcome"].startswith(
        "NonFiniteError: the loss is nan (inputs are not finite in float64"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [2, 6])
def test_a_signal_to_one_rank_stops_all_after_one_step(
    ranks: Ranks, number: signal.Signals, step: int
) -> None:
    """Step 6 is the first epoch's last."""
    several = _on_ranks(ranks, 2, {}, stop=(1, int(number), step))
    assert several["outcome"] == number
    assert several["step"] in (step, step + 1)
    assert several["last"]["progress"]["step"] == several["step"]


def test_time_that_is_up_on_one_rank_stops_all(ranks: Ranks) -> None:
    several = _on_ranks(ranks, 2, {"max_time": 1e6}, late_rank=1)
    assert (several["outcome"], several["step"]) == ("max_time", 1)


def test_ranks_lose_patience_together(ranks: Ranks) -> None:
    options = {"epochs": 30, "lr": 1e-30, "early_stopping": {"patience": 2}}
    assert _on_ranks(ranks, 2, options)["outcome"] == "early_stopping"


def test_a_weight_without_gradient_is_named_on_every_rank(ranks: Ranks) -> None:
    several = _on_ranks(ranks, 2, {}, model="unused")
    assert several["outcome"].startswith("UnsupportedModelError: no gradient reaches unused.weight")


# -- resume ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [3, 6, 8])
def test_as_many_ranks_continue_to_the_bit(ranks: Ranks, step: int) -> None:
    """With dropout: every rank's generators continue."""
    whole = _on_ranks(ranks, 2, {}, model="noisy")
    first = _on_ranks(ranks, 2, {}, model="noisy", stop=(0, signal.SIGINT, step))
    second = _on_ranks(ranks, 2, {}, model="noisy", state=first["last"])
    assert second["weights"].equal(whole["weights"])
    assert [*first["records"], *second["records"]] == whole["records"]
    assert_same(without_seconds(second["last"]), without_seconds(whole["last"]))


@pytest.mark.parametrize(("before", "after"), [(2, 3), (3, 1), (1, 2)])
@pytest.mark.parametrize("task", [CLASSIFICATION, REGRESSION])
def test_another_number_of_ranks_continues(
    ranks: Ranks, task: Any, before: int, after: int
) -> None:
    """In mid-epoch: what the first ranks added up is in the record of the epoch."""
    options = {"task": task, "accumulate": 2}
    one = _train(Group.single(), options)
    first = _on_ranks(ranks, before, options, stop=(0, signal.SIGINT, 4))
    assert first["last"]["progress"]["batch"] > 0
    second = _on_ranks(ranks, after, options, state=first["last"])
    assert second["step"] == one["step"]
    together = {
        **second,
        "losses": [*first["losses"], *second["losses"]],
        "records": [*first["records"], *second["records"]],
    }
    _assert_close(together, one, 1e-9)
