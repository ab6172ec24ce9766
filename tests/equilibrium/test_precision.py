"""Nothing rounds an iteration: neither autocast nor a GPU's TF32."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from idl_cli.equilibrium.precision import full_precision


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision
    yield
    torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision = before


@pytest.mark.parametrize("matmul", ["ieee", "tf32"])
def test_tf32_is_off_within_and_as_it_was_after(matmul: str) -> None:
    torch.backends.cuda.matmul.fp32_precision = matmul
    with full_precision("cuda"):
        with pytest.raises(KeyError), full_precision("cuda"):
            raise KeyError
        assert torch.backends.cudnn.conv.fp32_precision == "ieee"
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert torch.backends.cudnn.conv.fp32_precision == "tf32"
    assert torch.backends.cuda.matmul.fp32_precision == matmul


def test_what_follows_the_switch_of_all_follows_it_again() -> None:
    everything: Any = torch.backends
    torch.backends.cuda.matmul.fp32_precision = "none"
    everything.fp32_precision = "tf32"
    try:
        with full_precision("cuda"):
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        everything.fp32_precision = "ieee"
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    finally:
        everything.fp32_precision = "none"


def test_the_older_switches_agree() -> None:
    torch.set_float32_matmul_precision("high")
    try:
        with full_precision("cuda"):
            pass
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision("highest")


def test_a_product_under_autocast_is_not_rounded() -> None:
    x = torch.randn(4, 4)
    with torch.autocast("cpu", torch.bfloat16), full_precision("cpu"):
        assert (x @ x).dtype == torch.float32
