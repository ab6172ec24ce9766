from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st
from sklearn import metrics as reference
from torch import Tensor

from idl_cli.data.scaling import TargetScaling
from idl_cli.data.task import Task
from idl_cli.errors import ShapeError
from idl_cli.evaluation.metrics import Loss, make_metrics


def measure(
    task: Task, outputs: Tensor, targets: Tensor, batch_size: int, loss: Loss | None = None
) -> dict[str, float]:
    metrics = make_metrics(task, loss)
    for batch in zip(outputs.split(batch_size), targets.split(batch_size), strict=True):
        metrics.update(*batch)
    return metrics.compute()


def regression(outputs: int) -> Task:
    return Task("regression", (1,), outputs)


def classification(classes: int) -> Task:
    return Task("classification", (1,), classes)


# Differences of 1e-3 or more, or none at all, so that squares do not underflow in either library.
values = st.integers(-1_000_000, 1_000_000).map(lambda number: number / 1000)
pairs = st.tuples(st.integers(2, 30), st.integers(1, 3)).flatmap(
    lambda shape: st.tuples(
        np_st.arrays(np.float64, shape, elements=values),
        np_st.arrays(np.float64, shape, elements=values),
    )
)


@settings(derandomize=True, deadline=None)
@given(pairs, st.integers(1, 30))
def test_regression_metrics_are_those_of_scikit_learn(
    pair: tuple[np.ndarray, np.ndarray], batch_size: int
) -> None:
    outputs, targets = pair
    found = measure(
        regression(outputs.shape[1]), torch.tensor(outputs), torch.tensor(targets), batch_size
    )
    # Both sum up to 90 float64 terms, in another order.
    close = {"rel": 1e-10, "abs": 1e-10}
    assert found["mse"] == pytest.approx(reference.mean_squared_error(targets, outputs), **close)
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(targets, outputs), **close)
    mape = reference.mean_absolute_percentage_error(targets, outputs)
    assert found["mape"] == pytest.approx(mape, **close)
    constant = np.ptp(targets, axis=0) == 0
    if not constant.any():  # there a mean that is off by one rounding decides: see the next test
        r2 = reference.r2_score(targets, outputs)
        assert found["r2"] == pytest.approx(r2, rel=1e-9, abs=1e-9)
    assert found["loss"] == found["mse"]


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_r2_of_equal_targets(batch_size: int) -> None:
    targets = torch.full((3, 1), 0.1, dtype=torch.float64)
    assert measure(regression(1), targets.clone(), targets, batch_size)["r2"] == 1
    assert measure(regression(1), targets + 1, targets, batch_size)["r2"] == 0


def test_r2_keeps_its_digits_where_the_mean_is_large() -> None:
    # Σy² - (Σy)²/m would be wrong in every digit: y² is 1e16, the variance 1.
    generator = torch.Generator().manual_seed(0)
    targets = 1e8 + torch.randn(1000, 1, generator=generator, dtype=torch.float64)
    outputs = targets + 0.1 * torch.randn(1000, 1, generator=generator, dtype=torch.float64)
    expected = reference.r2_score(targets.numpy(), outputs.numpy())
    for batch_size in (1, 7, 1000):
        found = measure(regression(1), outputs, targets, batch_size)
        # Entries near 1e8 are spaced 1.5e-8 apart: the mean and deviations carry that rounding.
        assert found["r2"] == pytest.approx(expected, abs=1e-9)


def test_regression_of_float32_outputs_is_summed_in_float64() -> None:
    targets = torch.zeros(100_000, 1)
    outputs = torch.full((100_000, 1), 0.1)
    mse = float(np.float32(0.1)) ** 2  # exactly what each sample contributes
    found = measure(regression(1), outputs, targets, 999)
    assert found["mse"] == pytest.approx(mse, rel=1e-12)


@settings(derandomize=True, deadline=None)
@given(
    st.integers(2, 25).flatmap(
        lambda classes: st.tuples(
            np_st.arrays(
                np.float64, st.tuples(st.integers(1, 20), st.just(classes)), elements=values
            ),
            st.integers(0, classes - 1),
        )
    ),
    st.integers(1, 20),
)
def test_classification_metrics_by_their_definitions(
    drawn: tuple[np.ndarray, int], batch_size: int
) -> None:
    logits, shift = drawn
    samples, classes = logits.shape
    targets = (np.arange(samples) + shift) % classes
    found = measure(
        classification(classes), torch.tensor(logits), torch.tensor(targets), batch_size
    )
    own = logits[np.arange(samples), targets]
    largest = logits.max(axis=1)
    log_sum = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
    assert found["loss"] == pytest.approx((log_sum - own).mean(), rel=1e-12, abs=1e-12)
    assert found["accuracy"] == pytest.approx((logits.argmax(axis=1) == targets).mean(), rel=1e-15)
    if classes < 20:
        assert set(found) == {"loss", "accuracy"}
    else:
        above = (logits > own[:, None]).sum(axis=1)
        assert found["top5_accuracy"] == pytest.approx((above < 5).mean(), rel=1e-15)


def test_logits_that_are_not_numbers_are_wrong_answers() -> None:
    logits = torch.full((2, 20), float("nan"))
    logits[0] = 0
    found = measure(classification(20), logits, torch.tensor([1, 1]), 2)
    assert np.isnan(found["loss"])
    assert found["top5_accuracy"] == 0.5
    assert found["accuracy"] == 0


def test_a_loss_of_ones_own_by_sample_or_as_a_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(10, 3, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 3, (10,), generator=generator)

    def margins(logits: Tensor, labels: Tensor) -> Tensor:
        return (1 - logits.gather(1, labels[:, None])[:, 0]).clamp(min=0)

    expected = margins(outputs, targets).mean().item()
    for loss in (margins, lambda logits, labels: margins(logits, labels).mean()):
        for batch_size in (1, 3, 10):
            found = measure(classification(3), outputs, targets, batch_size, loss)
            assert found["loss"] == pytest.approx(expected, rel=1e-14)
    real = torch.randn(10, 2, generator=generator, dtype=torch.float64)
    found = measure(
        regression(2), real, real + 1, 3, lambda outputs, targets: (targets - outputs).sum(dim=1)
    )
    assert found["loss"] == pytest.approx(2, rel=1e-14)
    assert found["mse"] == pytest.approx(1, rel=1e-14)


@pytest.mark.parametrize(
    ("task", "outputs", "targets", "message"),
    [
        (classification(3), torch.zeros(2, 4), torch.zeros(2).long(), r"\(2, 4\), where \(2, 3\)"),
        (regression(1), torch.zeros(2), torch.zeros(2, 1), r"\(2,\), where \(2, 1\)"),
        (regression(1), torch.zeros(2, 1), torch.zeros(2), r"\(2,\), where \(2, 1\)"),
    ],
)
def test_shapes_that_would_broadcast_are_refused(
    task: Task, outputs: Tensor, targets: Tensor, message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        make_metrics(task).update(outputs, targets)


@pytest.mark.parametrize("task", [classification(20), regression(2)])
def test_accumulation_goes_on_from_its_state(task: Task) -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(12, task.output_dim, generator=generator, dtype=torch.float64)
    targets = (
        torch.arange(12)
        if task.kind == "classification"
        else torch.randn(12, 2, generator=generator, dtype=torch.float64)
    )
    whole, first, second = make_metrics(task), make_metrics(task), make_metrics(task)
    second.load_state_dict(first.state_dict())  # nothing added yet
    first.update(outputs[:5], targets[:5])
    second.load_state_dict(first.state_dict())
    second.update(outputs[5:], targets[5:])
    whole.update(outputs[:5], targets[:5])
    whole.update(outputs[5:], targets[5:])
    assert second.compute() == whole.compute()  # bit by bit


@pytest.mark.parametrize("task", [classification(20), regression(2)])
def test_sums_over_other_samples_are_added(task: Task) -> None:
    """A rank without samples adds nothing; the rest adds up to the whole."""
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(12, task.output_dim, generator=generator, dtype=torch.float64)
    targets = torch.arange(12)
    if task.kind == "regression":  # far from zero: the spread must not lose its digits
        targets = 1e6 + torch.randn(12, 2, generator=generator, dtype=torch.float64)
        outputs = targets + outputs
    whole, merged = make_metrics(task), make_metrics(task)
    whole.update(outputs, targets)
    for part in (slice(0, 5), slice(5, 5), slice(5, 12)):
        metrics = make_metrics(task)
        if len(targets[part]):
            metrics.update(outputs[part], targets[part])
        merged.merge(metrics.state_dict())
    assert merged.compute() == pytest.approx(whole.compute(), rel=1e-9)


@pytest.mark.parametrize("classes", [3, 30])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_outputs_that_are_not_finite_are_never_right_and_are_counted(
    classes: int, value: float
) -> None:
    metrics = make_metrics(Task("classification", (4,), classes))
    logits = torch.eye(classes)[torch.arange(10) % classes]
    logits[:4, 0] = value
    metrics.update(logits, torch.arange(10) % classes)
    figures = metrics.compute()
    assert figures["accuracy"] == pytest.approx(0.6)
    assert figures.get("top5_accuracy", 0.6) == pytest.approx(0.6)
    assert figures["nonfinite_outputs"] == 4
    assert metrics.remarks() == [
        "4 of 10 outputs are not finite, as of a model that has diverged; they count as wrong"
    ]


def test_equal_logits_are_ordered_alike_for_both_accuracies() -> None:
    metrics = make_metrics(Task("classification", (4,), 40))
    metrics.update(torch.zeros(40, 40), torch.arange(40))
    figures = metrics.compute()
    assert figures["accuracy"] == pytest.approx(1 / 40)
    assert figures["top5_accuracy"] == pytest.approx(5 / 40)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("scaled", [False, True])
def test_regression_metrics_are_those_of_extended_precision(offset: float, scaled: bool) -> None:
    generator = np.random.default_rng(0)
    y = offset + 5 * generator.normal(size=(500, 2))
    scaling = TargetScaling.fit(torch.from_numpy(y)) if scaled else None
    targets = torch.from_numpy(y) if scaling is None else scaling.scale(torch.from_numpy(y))
    outputs = targets + 0.1 * torch.from_numpy(generator.normal(size=(500, 2)))
    metrics = make_metrics(Task("regression", (4,), 2, target_scaling=scaling))
    for batch in range(0, 500, 64):
        metrics.update(outputs[batch : batch + 64], targets[batch : batch + 64])
    figures = metrics.compute()
    wide, std = y.astype(np.longdouble), np.array((1.0, 1.0) if scaling is None else scaling.std)
    error = (targets.numpy().astype(np.longdouble) - outputs.numpy()) * std
    spread = np.square(wide - wide.mean(axis=0)).sum(axis=0)
    # Targets of 1e9 are themselves rounded by 1e-7, of a spread of 5.
    assert figures["r2"] == pytest.approx(
        float((1 - np.square(error).sum(axis=0) / spread).mean()), abs=1e-8
    )
    assert figures["mse"] == pytest.approx(float(np.square(error).mean()), rel=1e-7)
    assert figures["mae"] == pytest.approx(float(np.abs(error).mean()), rel=1e-7)


def test_r2_of_one_sample_and_of_equal_targets_is_explained() -> None:
    one = make_metrics(Task("regression", (4,), 1))
    one.update(torch.tensor([[1.0]]), torch.tensor([[1.0]]))
    assert math.isnan(one.compute()["r2"])
    assert ["one sample" in remark for remark in one.remarks()] == [True]
    # 0.1 by two routes: the deviations are those of rounding, and no spread.
    equal = torch.tensor([[0.1], [0.3 - 0.2], [0.1]], dtype=torch.float64)
    for shift, expected in ((0.0, 1.0), (1e-3, 0.0)):
        metrics = make_metrics(Task("regression", (4,), 1))
        metrics.update(equal + shift, equal)
        assert metrics.compute()["r2"] == expected
        assert ["all equal" in remark for remark in metrics.remarks()] == [True]


@pytest.mark.parametrize(("smallest", "said"), [(0.0, True), (1e-9, True), (0.5, False)])
def test_a_relative_error_of_targets_near_zero_is_explained(smallest: float, said: bool) -> None:
    metrics = make_metrics(Task("regression", (4,), 1))
    y = torch.tensor([[smallest], [1.0], [2.0]], dtype=torch.float64)
    metrics.update(y + 0.1, y)
    assert [remark.startswith("mape") for remark in metrics.remarks()] == [True] * said


def test_outputs_that_are_not_finite_leave_no_squared_error() -> None:
    metrics = make_metrics(Task("regression", (4,), 1))
    metrics.update(torch.tensor([[float("nan")], [1.0]]), torch.tensor([[1.0], [2.0]]))
    assert metrics.compute()["nonfinite_outputs"] == 1
    assert math.isnan(metrics.compute()["r2"])
    assert "1 of 2 outputs" in metrics.remarks()[0]


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("power", range(-300, 301, 60))
def test_r2_is_right_or_none_in_any_unit(power: int, outputs: int) -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn(40, outputs, generator=generator, dtype=torch.float64)
    predicted = targets + torch.randn(40, outputs, generator=generator, dtype=torch.float64)
    unit = 10.0**power
    metrics = make_metrics(regression(outputs))
    metrics.update(predicted * unit, targets * unit)
    found = metrics.compute()["r2"]
    if abs(power) < 150:  # squares within 1e±308
        expected = reference.r2_score(targets, predicted)
        assert found == pytest.approx(expected, rel=1e-12)
    else:
        assert math.isnan(found)
        assert any("beyond float64" in remark for remark in metrics.remarks())
