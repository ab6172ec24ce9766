"""The checker of configurations: what it lets through, what it refuses, in which words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from idl_cli.config.check import (
    check,
    collect,
    instantiate,
    key_hints,
    schema_defaults,
)
from idl_cli.config.fields import AT_LEAST_ONE, POSITIVE, Pattern, Range, Section
from idl_cli.errors import ConfigError, RequestError


@dataclass(frozen=True)
class Solve:
    """How to solve."""

    tol: Annotated[float, POSITIVE] = 1e-5
    max_iter: Annotated[int, AT_LEAST_ONE] = 500


@dataclass(frozen=True)
class Model:
    """A model."""

    width: Annotated[int, AT_LEAST_ONE]
    name: Literal["model"] = "model"
    rank: Annotated[int, AT_LEAST_ONE] | None = None
    depth: Annotated[int | None, AT_LEAST_ONE] = None
    kappa: Annotated[float, Range(0, 1, low_open=True, high_open=True)] = 0.95
    activation: Literal["relu", "tanh"] = "relu"
    bias: bool = True
    dims: tuple[int, ...] = (1, 2)
    betas: tuple[float, float] = (0.9, 0.99)
    weights: Literal["balanced"] | tuple[float, ...] | None = None
    scales: Mapping[str, float] | None = None
    forward: Solve = Solve()
    backward: Solve | None = None

    def problems(self) -> Iterator[str]:
        """A rank above the width is none."""
        if self.rank is not None and self.rank > self.width:
            yield f"rank={self.rank}: above model.width={self.width}"


@dataclass(frozen=True)
class Root:
    """The whole."""

    model: Annotated[Mapping[str, Any], Section("model")]
    data: Annotated[Mapping[str, Any], Section("model")] | None = None
    seed: int = 0
    device: Annotated[str, Pattern(r"cpu|cuda(:\d+)?", "one of cpu, cuda, cuda:N")] = "cpu"
    file: str | None = None


def lookup(group: str, name: str) -> type:
    assert group == "model"
    if name != "model":
        raise RequestError(f"model has no component {name!r}; choose from model")
    return Model


def problems(**values: Any) -> list[str]:
    return collect(Root, {"model": {"name": "model", "width": 4}, **values}, lookup)[1]


def model(**values: Any) -> list[str]:
    return problems(model={"name": "model", "width": 4, **values})


def test_defaults_of_absent_keys_are_filled_in() -> None:
    checked = check(Root, {"model": {"name": "model", "width": 4}}, lookup)
    assert checked["model"]["forward"] == {"tol": 1e-5, "max_iter": 500}
    assert checked["model"]["betas"] == (0.9, 0.99)
    assert checked["seed"] == 0
    assert checked["data"] is None


def test_a_partly_given_section_keeps_its_other_defaults() -> None:
    checked = check(Solve, {"tol": 1}, lookup)
    assert checked == {"tol": 1.0, "max_iter": 500}
    assert isinstance(checked["tol"], float)


def test_lists_become_what_the_schema_says() -> None:
    values = {"name": "model", "width": 4, "dims": [3], "weights": [1, 2], "backward": {"tol": 1}}
    checked = check(Root, {"model": values}, lookup)["model"]
    assert checked["dims"] == (3,)
    assert checked["weights"] == (1.0, 2.0)
    assert instantiate(Model, checked).backward == Solve(tol=1.0)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("kappa", 1.0, "a number in (0, 1)"),
        ("kappa", 0, "a number in (0, 1)"),
        ("kappa", float("nan"), "a number in (0, 1)"),
        ("kappa", "0.5", "a number in (0, 1)"),
        ("kappa", True, "a number in (0, 1)"),
        ("kappa", None, "a number in (0, 1)"),
        ("rank", 0, "an integer >= 1 or null"),
        ("rank", 2.0, "an integer >= 1 or null"),
        ("depth", 0, "an integer >= 1 or null"),
        ("activation", "rleu", "one of relu, tanh (did you mean relu?)"),
        ("bias", 1, "true or false"),
        ("bias", "yes", "true or false"),
        ("betas", [0.9], "a list of 2: [a number, a number]"),
        ("dims", 3, "a list whose every entry is an integer"),
        ("weights", "balancd", "balanced (did you mean balanced?)"),
        ("forward", 3, "a section of keys"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(
    key: str, value: object, allowed: str
) -> None:
    (sentence,) = model(**{key: value})
    assert sentence.startswith(f"model.{key}=")
    assert allowed in sentence


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kappa", 0.5),
        ("rank", None),
        ("rank", 4),
        ("depth", 1),
        ("bias", False),
        ("weights", "balanced"),
        ("weights", None),
        ("scales", {"a": 1}),
        ("backward", None),
    ],
)
def test_a_right_value_is_let_through(key: str, value: object) -> None:
    assert model(**{key: value}) == []


def test_every_mistake_is_reported_in_one_go() -> None:
    found = problems(
        model={"name": "model", "kappa": 2, "forward": {"tol": -1, "max_iterations": 3}},
        sed=1,
        device="tpu",
    )
    assert found == [
        "model.width: missing; give model.width=VALUE, an integer >= 1",
        "model.kappa=2: must be a number in (0, 1)",
        "model.forward.tol=-1: must be a number > 0",
        "model.forward.max_iterations=3: no such key; did you mean model.forward.max_iter?",
        "device=tpu: must be one of cpu, cuda, cuda:N",
        "sed=1: no such key; did you mean seed?",
    ]


def test_check_raises_all_of_them() -> None:
    with pytest.raises(ConfigError) as caught:
        check(Root, {"model": {"name": "model", "width": 0}, "seed": "x"}, lookup)
    assert len(caught.value.problems) == 2
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("section", "key", "hint"),
    [
        ("modle", {"kappa": 1}, "model.kappa"),  # a misspelt section: each key in it has a home
        ("kapa", 0.5, "model.kappa"),  # a key without its section
        ("max_iter", 3, "model.forward.max_iter or model.backward.max_iter"),
        ("max_steps", 3, "model.forward.max_iter or model.backward.max_iter"),  # elsewhere's word
    ],
)
def test_an_unknown_key_names_the_nearest_full_path(section: str, key: object, hint: str) -> None:
    (sentence,) = problems(**{section: key})
    assert sentence.endswith(f"did you mean {hint}?")


def test_an_unknown_key_like_no_other_lists_its_neighbours() -> None:
    (sentence,) = model(forward={"zzz": 1})
    assert sentence == "model.forward.zzz=1: no such key; known here: tol, max_iter"


def test_a_missing_value_and_an_absent_key_are_the_same_mistake() -> None:
    given = problems(model={"name": "model", "width": "???"})
    absent = problems(model={"name": "model"})
    assert given == absent
    assert len(given) == 1


def test_an_impossible_pair_is_reported_only_where_each_value_is_sound() -> None:
    assert model(rank=5) == ["model.rank=5: above model.width=4"]
    assert len(model(rank=5, kappa=7)) == 1


def test_a_section_must_name_a_component() -> None:
    assert "choose from model" in problems(model={"name": "other"})[0]
    assert problems(model={"width": 3})[0].startswith("model.name")
    assert problems(model=3)[0].startswith("model=3")
    assert problems(data=None) == []


def test_key_hints_know_optional_sections() -> None:
    hints = key_hints(Root, lookup, {"model": {"name": "model", "width": 1}})
    assert "model.forward.tol" in hints
    assert "model.backward.max_iter" in hints


def test_schema_defaults_are_a_yaml_of_the_option() -> None:
    defaults = schema_defaults(Model)
    assert defaults["width"] == "???"
    assert defaults["forward"] == {"tol": 1e-5, "max_iter": 500}
