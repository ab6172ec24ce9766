"""What a key that there is not was most likely meant to be."""

from __future__ import annotations

import pytest

from idl_cli.config.unknown_keys import nearest_path, unknown_key

VALID = ("seed", "model.kappa", "model.name", "trainer.tol", "trainer.kappa", "trainer.width")


def test_nearest_path_says_nothing_when_nothing_is_near() -> None:
    assert nearest_path("zzz", ["model.kappa", "seed"]) is None


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("kappa", "did you mean model.kappa or trainer.kappa?"),
        ("trainr.kappa", "did you mean trainer.kappa?"),
        ("model.tol", "did you mean trainer.tol?"),
        ("tolerance", "did you mean trainer.tol?"),
        ("manual-seed", "did you mean seed?"),
        ("outdir", "did you mean hydra.run.dir or hydra.sweep.dir?"),
        ("name", "known here: seed, model, trainer"),
    ],
)
def test_a_key_is_led_to_where_it_belongs(path: str, meant: str) -> None:
    assert unknown_key(path, 1, VALID) == f"{path}=1: no such key; {meant}"


def test_what_is_elsewhere_goes_before_a_spelling_unless_that_is_very_close() -> None:
    def said(path: str) -> str | None:
        return f"{path} is a key of x" if path in ("withd", "widths") else None

    assert unknown_key("withd", 1, VALID, said).endswith("no such key; withd is a key of x")
    found = unknown_key("widths", 1, VALID, said)
    assert found.endswith("did you mean trainer.width? (widths is a key of x)")
