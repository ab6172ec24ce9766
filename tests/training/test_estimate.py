import torch

from idl_cli.training.estimate import estimate
from tests.training.helpers import make_trainer


def test_memory_is_counted_exactly_where_it_can_be() -> None:
    trainer, _ = make_trainer(optimizer="adam", epochs=7, dtype=torch.float64)
    parameters = sum(p.numel() for p in trainer.model.parameters())
    found = estimate(trainer, data_bytes=1000)
    assert found.steps == 7 * 6
    assert found.weights_bytes == found.gradients_bytes == 8 * parameters
    # Adam keeps two moments, and a step count in float32 a tensor.
    tensors = len(list(trainer.model.parameters()))
    assert found.optimizer_bytes == 2 * 8 * parameters + 4 * tensors
    assert found.activations_bytes >= 8 * 8 * (4 + 6), "a batch of inputs and of states at least"
    assert found.bytes == (
        2 * 8 * parameters + found.optimizer_bytes + found.activations_bytes + 1000
    )


def test_time_covers_every_step() -> None:
    trainer, _ = make_trainer(epochs=10)
    found = estimate(trainer, data_bytes=0)
    assert 0 < found.seconds_per_step < 1
    assert found.seconds >= 60 * found.seconds_per_step
    described = found.described()
    assert "60 steps" in str(described["time"])
    assert "MiB" in str(described["memory"])


def test_a_single_batch_is_enough() -> None:
    trainer, _ = make_trainer(count=3, epochs=1, validation=False)
    assert estimate(trainer, data_bytes=0).steps == 1
