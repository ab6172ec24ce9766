"""Which device a process, or each of several ranks, computes on, and whether it is there."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from idl_cli.errors import ConfigError


def visible_gpus() -> int:
    """Number of GPUs that torch sees here."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def resolve_device(name: str, local_rank: int = 0) -> torch.device:
    """The device that a name means to a process of this machine.

    Args:
        name: the key ``device``: auto (a GPU where there is one), cpu, cuda or cuda:N.
        local_rank: of the process on its machine, which chooses the GPU where the name does not.

    Raises:
        ConfigError: there is no such device.
    """
    visible = visible_gpus()
    if name == "cpu" or (name == "auto" and not visible):
        return torch.device("cpu")
    _, named, number = name.partition(":")
    # A launcher may show each rank its own GPU alone, which then is number 0 for all of them.
    index = int(number) if named else local_rank % max(visible, 1)
    if index >= visible:
        found = f"cuda:0 to cuda:{visible - 1}" if visible else "no CUDA device"
        raise ConfigError([f"device={name}: torch sees {found} here; use device=auto or cpu"])
    return torch.device("cuda", index)


def rank_devices(
    devices: int | Sequence[int] | None,
    processes: int | None = None,
    *,
    policy: str = "auto",
    visible: int,
    key: str = "solver",
) -> tuple[str, ...]:
    """Return the device of every rank on this machine, such as ``("cuda:0", "cuda:2")``.

    ===============  ==========================================================================
    ``devices``      GPUs: how many (the first ones), or which; None for all that are visible
    ``processes``    ranks on the CPU; None to follow ``devices``
    ``policy``       the key ``device``: ``cpu`` makes every rank one of the CPU, ``cuda:N`` is
                     the one device there is
    ===============  ==========================================================================

    Without a GPU, or with ``policy="cpu"``, there is one rank unless ``processes`` says otherwise.

    Args:
        devices: as above.
        processes: as above.
        policy: as above.
        visible: number of GPUs that torch sees.
        key: section of the configuration that ``devices`` and ``processes`` are in, for messages.

    Raises:
        ConfigError: more devices than visible, a device twice or not there, or two keys that
            contradict each other.
    """
    if processes is not None:
        wanted = None if devices is None else _count(devices)
        if wanted is not None and policy != "cpu":
            raise ConfigError(
                [
                    f"{key}.processes={processes}: ranks on the CPU, while {key}.devices="
                    f"{_shown(devices)} asks for GPUs; give one of the two"
                ]
            )
        if wanted is not None and wanted != processes:
            raise ConfigError(
                [f"{key}.processes={processes}: but {key}.devices={wanted}; give one of the two"]
            )
        if policy.startswith("cuda"):
            raise ConfigError(
                [
                    f"{key}.processes={processes}: ranks on the CPU, while device={policy}; use "
                    f"device=cpu, or {key}.devices"
                ]
            )
        return ("cpu",) * processes
    if policy == "cpu":
        return ("cpu",) * (1 if devices is None else _count(devices))
    if ":" in policy:
        if devices is not None:
            raise ConfigError(
                [
                    f"{key}.devices={_shown(devices)}: but device={policy} names the one device to "
                    "use; use device=auto"
                ]
            )
        return (policy,)
    return tuple(f"cuda:{index}" for index in _indices(devices, visible, key)) or ("cpu",)


def _indices(devices: int | Sequence[int] | None, visible: int, key: str) -> Sequence[int]:
    if devices is None:
        return range(visible)
    indices = range(devices) if isinstance(devices, int) else list(devices)
    problem = None
    if len(set(indices)) != len(indices):
        problem = "names a device twice; every rank needs its own"
    elif not indices or max(indices) >= visible or min(indices) < 0:
        problem = _visible(visible) + "; device=cpu runs as many processes on the CPU"
    if problem is not None:
        raise ConfigError([f"{key}.devices={_shown(devices)}: {problem}"])
    return indices


def _visible(count: int) -> str:
    if count == 0:
        return "torch sees no GPU here"
    return f"torch sees {count} GPU{'s' if count > 1 else ''} here (0 to {count - 1})"


def _count(devices: int | Sequence[int]) -> int:
    return devices if isinstance(devices, int) else len(devices)


def _shown(devices: int | Sequence[int] | None) -> str:
    return str(devices) if isinstance(devices, int) else f"[{','.join(map(str, devices or ()))}]"
