"""Schemas made from signatures: what a plug-in's constructor says about its keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import pytest

from idl_cli.config.check import collect, schema_defaults
from idl_cli.config.fields import POSITIVE
from idl_cli.config.signature import schema_from_signature
from idl_cli.errors import ArgumentError


class Optimizer:
    """Steps that look ahead.

    More about it.
    """

    def __init__(
        self,
        parameters: Iterable[object],
        *,
        lr: Annotated[float, POSITIVE],
        steps: int = 5,
        kind: Literal["a", "b"] = "a",
        groups: Iterable[object] | None = None,
        decay: dict[str, float] | None = None,
    ) -> None: ...


def greedy(size: int, **rest: Any) -> None: ...


def problems(schema: type, **values: object) -> list[str]:
    return collect(schema, values, lambda group, name: schema)[1]


def test_keys_types_and_defaults_come_from_the_signature() -> None:
    schema = schema_from_signature("ahead", Optimizer, runtime={"parameters"})
    assert schema_defaults(schema) == {
        "name": "ahead",
        "lr": "???",
        "steps": 5,
        "kind": "a",
        "groups": None,
        "decay": None,
    }
    assert (schema.__doc__ or "").startswith("Steps that look ahead.")
    assert problems(schema, lr=0.1, decay={"a": 1}, groups=[1]) == []


def test_values_are_checked_against_the_hints() -> None:
    schema = schema_from_signature("ahead", Optimizer, runtime={"parameters"})
    found = problems(schema, lr=-1, steps="many", kind="c", stepz=3)
    assert [sentence.partition("=")[0] for sentence in found] == ["lr", "steps", "kind", "stepz"]
    assert "lr: missing" in problems(schema)[0]


def test_a_sink_for_any_keyword_is_refused() -> None:
    with pytest.raises(ArgumentError, match="named one by one"):
        schema_from_signature("greedy", greedy, runtime=())
