"""Old names of modules lead to the modules."""

from __future__ import annotations

from importlib import import_module

import pytest

from idl_cli.moved import _MOVED


@pytest.mark.parametrize(("old", "new"), _MOVED.items())
def test_an_old_name_is_the_same_module(old: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"idl_cli.{new}"):
        found = import_module(f"idl_cli.{old}")
    assert found is import_module(f"idl_cli.{new}")
    assert found.__spec__ is not None
    assert found.__spec__.name == f"idl_cli.{new}"


def test_a_wrong_name_is_still_wrong() -> None:
    with pytest.raises(ModuleNotFoundError):
        import_module("idl_cli.sim.no_such_module")
