from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from idl_cli.data.loader import BatchLoader
from idl_cli.data.preprocessing import Preprocessing
from idl_cli.data.split import Split
from idl_cli.data.task import Task
from idl_cli.errors import ArgumentError, ShapeError
from idl_cli.evaluation import evaluate, predict

CLASSES = Task("classification", (4,), 3)


def batches(split: Split, batch_size: int) -> BatchLoader:
    preprocessing = Preprocessing.fit(split.inputs, "none")
    return BatchLoader(
        split,
        batch_size,
        preprocessing=preprocessing,
        shuffle=False,
        seed=0,
        dtype=split.inputs.dtype,
    )


@pytest.fixture
def split() -> Split:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(37, 4, generator=generator, dtype=torch.float64)
    return Split(inputs, torch.randint(0, 3, (37,), generator=generator))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 3, dtype=torch.float64)


def test_the_metrics_are_those_of_all_samples_at_once(split: Split, model: nn.Module) -> None:
    logits = model(split.inputs)
    expected_loss = nn.functional.cross_entropy(logits, split.targets).item()
    expected_accuracy = (logits.argmax(1) == split.targets).double().mean().item()
    for batch_size in (1, 5, 36, 37):
        metrics = evaluate(model, batches(split, batch_size), CLASSES)
        assert set(metrics) == {"loss", "accuracy"}
        assert metrics["loss"] == pytest.approx(expected_loss, rel=1e-14)
        assert metrics["accuracy"] == expected_accuracy


def test_modes_are_restored_module_by_module_even_after_an_error(split: Split) -> None:
    frozen = nn.BatchNorm1d(4, dtype=torch.float64).eval()
    dropout = nn.Dropout(0.5)
    model = nn.Sequential(frozen, dropout, nn.Linear(4, 3, dtype=torch.float64))
    first = evaluate(model, batches(split, 8), CLASSES)
    assert evaluate(model, batches(split, 8), CLASSES) == first  # no dropout in evaluation
    assert (model.training, frozen.training, dropout.training) == (True, False, True)
    with pytest.raises(ShapeError, match=r"\(8, 3\), where \(8, 5\) is needed"):
        evaluate(model, batches(split, 8), Task("classification", (4,), 5))
    assert (model.training, frozen.training, dropout.training) == (True, False, True)


class Counting(nn.Module):
    """A model that counts solves, as an implicit one does."""

    class Statistics:
        def __init__(self) -> None:
            self.samples = 99

        def reset(self) -> None:
            self.samples = 0

        def summary(self) -> dict[str, float]:
            return {"iterations_mean": 3.0, "samples": float(self.samples)}

    def __init__(self, counts: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3, dtype=torch.float64)
        self.solve_statistics = self.Statistics() if counts else None

    def forward(self, inputs: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        if self.solve_statistics is not None:
            self.solve_statistics.samples += len(inputs)
        output: Tensor = self.linear(inputs)
        return output


def test_solve_statistics_are_those_of_this_pass(split: Split) -> None:
    metrics = evaluate(Counting(True), batches(split, 8), CLASSES)
    assert metrics["iterations_mean"] == 3
    assert metrics["samples"] == 37
    assert "samples" not in evaluate(Counting(False), batches(split, 8), CLASSES)


def test_no_batches(model: nn.Module) -> None:
    with pytest.raises(ArgumentError, match="no batches"):
        evaluate(model, [], CLASSES)
    with pytest.raises(ArgumentError, match="no batches"):
        predict(model, [])


def test_predict_keeps_the_order(split: Split, model: nn.Module) -> None:
    model.train()
    outputs = predict(model, torch.split(split.inputs, 8))
    assert model.training
    assert not outputs.requires_grad
    torch.testing.assert_close(outputs, model(split.inputs).detach(), rtol=1e-14, atol=1e-14)


def test_what_the_metrics_do_not_say_is_a_warning() -> None:
    diverged = nn.Linear(4, 3)
    nn.init.constant_(diverged.weight, float("nan"))
    batches = [(torch.ones(5, 4), torch.zeros(5, dtype=torch.long))]
    with pytest.warns(UserWarning, match="5 of 5 outputs are not finite"):
        figures = evaluate(diverged, batches, Task("classification", (4,), 3))
    assert figures["accuracy"] == 0.0
    assert figures["nonfinite_outputs"] == 5
