"""Joining a group: devices, backends, and peers that do not come."""

from __future__ import annotations

import socket
import threading
import time
from types import SimpleNamespace

import pytest
import torch

from idl_cli.distributed.devices import resolve_device
from idl_cli.distributed.environment import Launched
from idl_cli.distributed.group import Group, current
from idl_cli.distributed.join import abandon, backend_for, joined
from idl_cli.errors import ConfigError, RankError
from tests.distributed.helpers import free_port


def _place(rank: int, port: int, local_rank: int = 0) -> Launched:
    return Launched(rank, 2, local_rank, 2, "127.0.0.1", port, run_id="test")


def _set(monkeypatch: pytest.MonkeyPatch, place: Launched) -> None:
    for name, value in place.variables().items():
        monkeypatch.setenv(name, value)


def test_a_process_started_alone_is_a_group_of_one() -> None:
    rows, total = torch.ones(3, 2), torch.ones(2, dtype=torch.float64)
    with joined("cpu") as group:
        assert group == Group.single("cpu") == current()
        group.all_reduce_sum_([total])
        group.broadcast_(total)
        group.barrier()
        assert group.gather_rows(rows) is rows
        assert group.gather_objects("a") == ["a"]
        assert group.broadcast_object("a") == "a"
    assert total.tolist() == [1.0, 1.0]


def test_a_peer_that_never_comes_is_named_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, _place(0, free_port()))
    started = time.monotonic()
    with (
        pytest.raises(RankError, match=r"rank 1 of 2 did not join within 0\.3 s"),
        joined("cpu", timeout=0.3),
    ):
        pytest.fail("nobody came")
    assert time.monotonic() - started < 5.0


def test_a_port_in_use_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        port = other.getsockname()[1]
        _set(monkeypatch, _place(0, port))
        with (
            pytest.raises(RankError, match=rf"127\.0\.0\.1:{port} .*port is in use"),
            joined("cpu", timeout=1.0),
        ):
            pytest.fail("the port is taken")


def test_rank_0_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, _place(1, free_port()))
    with (
        pytest.raises(RankError, match=r"rank 1 got no answer from .* within 0\.5 s"),
        joined("cpu", timeout=0.5),
    ):
        pytest.fail("nobody listens")


@pytest.mark.parametrize(
    ("policy", "visible", "local_rank", "device"),
    [
        ("auto", 0, 1, "cpu"),
        ("cpu", 2, 1, "cpu"),
        ("auto", 2, 1, "cuda:1"),
        ("cuda", 2, 0, "cuda:0"),
        ("cuda:1", 2, 0, "cuda:1"),
        ("auto", 1, 1, "cuda:0"),  # each rank sees its own GPU alone, or all share one
    ],
)
def test_a_rank_finds_its_device(
    monkeypatch: pytest.MonkeyPatch, policy: str, visible: int, local_rank: int, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: visible > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    assert resolve_device(policy, local_rank) == torch.device(device)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="device=cuda:2: torch sees no CUDA device here"):
        resolve_device("cuda:2")
    with pytest.raises(ConfigError, match="device=cuda: torch sees no CUDA device here"):
        resolve_device("cuda", 0)


def test_a_group_is_abandoned_whatever_its_driver_does() -> None:
    stuck = threading.Event()

    def fails() -> None:
        raise RuntimeError("NCCL error: unhandled system error")

    aborted: list[bool] = []
    started = time.monotonic()
    abandon(SimpleNamespace(abort=lambda: aborted.append(True)))
    abandon(SimpleNamespace(abort=fails))
    abandon(SimpleNamespace(abort=stuck.wait), patience=0.1)
    abandon(None)
    assert aborted == [True]
    assert time.monotonic() - started < 4.0
    stuck.set()


def test_nccl_needs_a_gpu_of_its_own_for_every_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    assert backend_for(["a 1", "a 2", "b 1"]) == "nccl"
    assert backend_for(["a 1", "a 1"]) == "gloo"
    assert backend_for(["a 1", None]) == "gloo"
    assert backend_for([None, None]) == "gloo"
