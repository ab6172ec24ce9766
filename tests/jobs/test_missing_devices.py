from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.conftest import IdlHere


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        ("sim solver=admm_multigpu solver.devices=9", "solver.devices=9: "),
        ("sim solver=admm_multigpu solver.devices=[7]", "solver.devices=[7]: "),
        ("train trainer.devices=[0,7]", "trainer.devices=[0,7]: "),
        ("train device=cuda:63", "device=cuda:63: "),
    ],
)
def test_devices_that_are_not_there_are_refused_before_anything_is_made(
    idl_here: IdlHere,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request_: str,
    named: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    done = idl_here(*request_.split())
    assert done.status == 2
    assert named in done.errors
    assert "0 to 1" in done.errors or "cuda:0 to cuda:1" in done.errors
    assert not list(tmp_path.iterdir()), "nothing was made"
