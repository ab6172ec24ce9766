import pytest
import torch
from torch import nn

from idl_cli.data.task import Task
from idl_cli.errors import ArgumentError
from idl_cli.training.losses import cross_entropy_sum, make_loss, squared_error_sum

_TASK = Task("classification", (4,), 5)
_REGRESSION = Task("regression", (4,), 2)


def _batch(classes: int = 5, count: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, classes, (count,), generator=generator)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 1.0, 0.0, 3.0)])
def test_cross_entropy_is_torchs_and_the_stated_formula(
    smoothing: float, weights: tuple[float, ...] | None
) -> None:
    logits, targets = _batch()
    w = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    total, weight = cross_entropy_sum(logits, targets, label_smoothing=smoothing, weights=w)
    torch_loss = nn.CrossEntropyLoss(weight=w, label_smoothing=smoothing)(logits, targets)
    assert (total / weight).item() == pytest.approx(torch_loss.item(), rel=1e-14)
    log_p = logits - logits.exp().sum(1, keepdim=True).log()
    ones = torch.ones(5, dtype=torch.float64) if w is None else w
    own = ones[targets] * log_p.gather(1, targets[:, None])[:, 0]
    by_hand = -(1 - smoothing) * own.sum() - smoothing / 5 * (log_p @ ones).sum()
    assert total.item() == pytest.approx(by_hand.item(), rel=1e-13)


@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 1.0, 0.0, 3.0), "balanced"])
def test_sums_over_uneven_batches_make_the_exact_mean(weights: object) -> None:
    logits, targets = _batch()
    loss = make_loss(_TASK, class_weights=weights, label_smoothing=0.1, train_targets=targets)  # type: ignore[arg-type]
    whole = loss(logits, targets)
    parts = [loss(logits[a:b], targets[a:b]) for a, b in ((0, 7), (7, 9), (9, 12))]
    mean = sum(p[0] for p in parts) / sum(p[1] for p in parts)
    assert (whole[0] / whole[1]).item() == pytest.approx(float(mean), rel=1e-13)


def test_balanced_weights_give_every_class_the_same_say() -> None:
    targets = torch.tensor([0] * 6 + [1] * 3 + [2])  # class 3 and 4 never occur
    loss = make_loss(_TASK, class_weights="balanced", train_targets=targets)
    logits = torch.zeros(10, 5, dtype=torch.float64)
    shares = [loss(logits[targets == k], targets[targets == k])[1].item() for k in range(3)]
    assert shares == pytest.approx([10 / 3] * 3, rel=1e-14)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 1.0, 0.0, 3.0)])
@pytest.mark.parametrize("name", ["cross_entropy", "mse"])
def test_a_mixed_sample_counts_as_its_classes_in_their_shares(
    name: str, smoothing: float, weights: tuple[float, ...] | None
) -> None:
    """Cross-entropy is linear in the target; a squared error is that of the probabilities."""
    logits, targets = _batch()
    others, share = targets.roll(1), torch.rand(12, 1, dtype=torch.float64)
    one_hot = [nn.functional.one_hot(each, 5).double() for each in (targets, others)]
    mixed = share * one_hot[0] + (1 - share) * one_hot[1]
    if name == "mse":
        expected = (logits - mixed).square().mean(dim=1).sum()
        assert make_loss(_TASK, loss="mse")(logits, mixed)[0].item() == pytest.approx(
            expected.item(), rel=1e-14
        )
        return
    loss = make_loss(_TASK, class_weights=weights, label_smoothing=smoothing)
    for index, figure in enumerate(loss(logits, mixed)):
        expected = sum(
            own[0] * loss(logits[[i]], targets[[i]])[index]
            + (1 - own[0]) * loss(logits[[i]], others[[i]])[index]
            for i, own in enumerate(share)
        )
        assert figure.item() == pytest.approx(expected.item(), rel=1e-12)


def test_mean_squared_error_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(7, 2, generator=generator, dtype=torch.float64)
    targets = torch.randn(7, 2, generator=generator, dtype=torch.float64)
    for loss in (squared_error_sum, make_loss(_REGRESSION), make_loss(_REGRESSION, loss="mse")):
        total, weight = loss(outputs, targets)
        expected = nn.MSELoss()(outputs, targets).item()
        assert (total / weight).item() == pytest.approx(expected, rel=1e-14)


def test_mse_of_a_classification_is_that_of_the_one_hot_target() -> None:
    logits, targets = _batch()
    total, weight = make_loss(_TASK, loss="mse")(logits, targets)
    one_hot = torch.eye(5, dtype=torch.float64)[targets]
    assert (total / weight).item() == pytest.approx(nn.MSELoss()(logits, one_hot).item(), rel=1e-14)


@pytest.mark.parametrize(
    ("task", "arguments", "message"),
    [
        (_REGRESSION, {"loss": "cross_entropy"}, "the data set is a regression"),
        (_REGRESSION, {"label_smoothing": 0.1}, "label_smoothing"),
        (_REGRESSION, {"class_weights": "balanced"}, "class_weights"),
        (_TASK, {"loss": "mse", "label_smoothing": 0.1}, "label_smoothing"),
        (_TASK, {"class_weights": (1.0, 2.0)}, "has 2 entries; the data set has 5"),
        (_TASK, {"class_weights": (1.0, 2.0, 1.0, -1.0, 1.0)}, "no weight may be negative"),
        (_TASK, {"class_weights": (0.0,) * 5}, "one must be positive"),
    ],
)
def test_what_does_not_fit_the_task_is_refused(
    task: Task, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        make_loss(task, **arguments)  # type: ignore[arg-type]
