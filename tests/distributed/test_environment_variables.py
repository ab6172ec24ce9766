from __future__ import annotations

import os

import pytest

from idl_cli.distributed.environment import environment_variables


def test_variables_are_put_back_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDL_TEST_SET", "before")
    monkeypatch.delenv("IDL_TEST_UNSET", raising=False)
    values = {"IDL_TEST_SET": "1", "IDL_TEST_UNSET": "2"}
    with environment_variables(values):
        assert {name: os.environ[name] for name in values} == values
    with pytest.raises(KeyError), environment_variables(values):
        raise KeyError
    assert os.environ["IDL_TEST_SET"] == "before"
    assert "IDL_TEST_UNSET" not in os.environ
