"""What a job finds set in its process, whatever the job before it asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from idl_cli.assembly.compute import prepare


@pytest.fixture(autouse=True)
def _mode(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.get_deterministic_debug_mode()
    yield
    torch.set_deterministic_debug_mode(before)


@pytest.mark.parametrize("before", ["default", "warn", "error"])
@pytest.mark.parametrize("deterministic", [True, False])
def test_determinism_is_what_this_job_asks_for(before: str, deterministic: bool) -> None:
    torch.set_deterministic_debug_mode(before)
    prepare(device="cpu", dtype="float32", seed=0, deterministic=deterministic)
    assert torch.get_deterministic_debug_mode() == (2 if deterministic else 0)
