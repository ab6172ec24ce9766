"""A second pass over known inputs gives what a pass from scratch gives, or says that it cannot."""

import torch

from idl_cli.sim.statistics.dense import SufficientStatistics
from idl_cli.sim.statistics.shared_inputs import SharedInputStatistics


def _samples(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    widths = {"old": 4, "new": 4, "inputs": 6, "outputs": 2}
    return {name: torch.randn(1500, width, generator=generator) for name, width in widths.items()}


def _statistics(states: torch.Tensor, samples: dict[str, torch.Tensor]) -> SufficientStatistics:
    result = SufficientStatistics(4, 6, {"Y": 2})
    result.update(states, samples["inputs"], {"Y": samples["outputs"]})
    return result


def test_known_inputs_are_shared_exactly() -> None:
    samples = _samples(0)
    shared = SharedInputStatistics(_statistics(samples["old"], samples), "Y")
    order = torch.randperm(1500, generator=torch.Generator().manual_seed(1))  # a shuffled loader
    for chunk in order.split(400):
        shared.update(*(samples[name][chunk] for name in ("new", "inputs", "outputs")))
    found, expected = shared.result(), _statistics(samples["new"], samples)
    assert found is not None
    assert found.count == 1500
    for name, tensor in expected.tensors().items():
        torch.testing.assert_close(found.tensors()[name], tensor, rtol=1e-12, atol=1e-9)


def test_other_inputs_are_noticed() -> None:
    samples, others = _samples(0), _samples(1)
    known = _statistics(samples["old"], samples)
    for inputs, outputs, count in (
        (others["inputs"], samples["outputs"], 1500),
        (samples["inputs"], others["outputs"], 1500),
        (samples["inputs"], samples["outputs"], 1499),
    ):
        shared = SharedInputStatistics(known, "Y")
        shared.update(samples["new"][:count], inputs[:count], outputs[:count])
        assert shared.result() is None
