"""Which device each rank gets; no GPU is needed to decide it."""

import pytest

from idl_cli.distributed.devices import rank_devices
from idl_cli.errors import ConfigError


@pytest.mark.parametrize(
    ("devices", "processes", "policy", "visible", "expected"),
    [
        (None, None, "auto", 3, ("cuda:0", "cuda:1", "cuda:2")),
        (None, None, "auto", 0, ("cpu",)),
        (2, None, "auto", 4, ("cuda:0", "cuda:1")),
        ((0, 2), None, "cuda", 4, ("cuda:0", "cuda:2")),
        ((2, 0), None, "auto", 3, ("cuda:2", "cuda:0")),
        (None, 2, "auto", 4, ("cpu", "cpu")),
        (None, 3, "cpu", 0, ("cpu", "cpu", "cpu")),
        (2, None, "cpu", 4, ("cpu", "cpu")),
        (None, None, "cpu", 4, ("cpu",)),
        (None, None, "cuda:1", 4, ("cuda:1",)),
    ],
)
def test_every_rank_has_its_device(
    devices: int | tuple[int, ...] | None,
    processes: int | None,
    policy: str,
    visible: int,
    expected: tuple[str, ...],
) -> None:
    assert rank_devices(devices, processes, policy=policy, visible=visible) == expected


@pytest.mark.parametrize(
    ("devices", "processes", "policy", "visible", "message"),
    [
        (4, None, "auto", 2, r"solver\.devices=4: torch sees 2 GPUs here \(0 to 1\)"),
        (2, None, "auto", 0, r"solver\.devices=2: torch sees no GPU here; device=cpu"),
        ((0, 5), None, "auto", 2, r"solver\.devices=\[0,5\]: torch sees 2 GPUs"),
        ((1, 1), None, "auto", 2, r"solver\.devices=\[1,1\]: names a device twice"),
        (2, 3, "auto", 4, r"solver\.processes=3: .* solver\.devices=2 asks for GPUs"),
        (2, 3, "cpu", 0, r"solver\.processes=3: but solver\.devices=2"),
        (None, 2, "cuda", 4, r"solver\.processes=2: ranks on the CPU, while device=cuda"),
        (2, None, "cuda:1", 4, r"solver\.devices=2: but device=cuda:1"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(
    devices: int | tuple[int, ...] | None,
    processes: int | None,
    policy: str,
    visible: int,
    message: str,
) -> None:
    with pytest.raises(ConfigError, match=message):
        rank_devices(devices, processes, policy=policy, visible=visible)
