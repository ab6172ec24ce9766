"""Every option of every group composes, passes its schema, and says what its keys mean."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from idl_cli import registry
from idl_cli.commands import SUB_COMMANDS
from idl_cli.commands.list import summaries
from idl_cli.config.check import schema_defaults
from idl_cli.config.options import OVERLAYS, component_in, config_directory, option_files
from idl_cli.requests.preflight import Request, preflight
from idl_cli.requests.specification import Command
from tests.sub_commands import COMMANDS

CONFIGS = config_directory()
OFFERED = [command for command in COMMANDS.values() if command.name in SUB_COMMANDS]
# What a command cannot be without, beside the keys that its file leaves open.
BESIDE = {"convert": ("teacher=mlp", "dataset=digits")}
COMPONENTS = [(group, name) for group in registry.groups() for name in registry.names(group)]


def _read(file: Path) -> dict[str, Any]:
    values = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _options(group: str) -> list[str]:
    return list(option_files(group, [CONFIGS]))


def _choices(command: Command) -> list[tuple[Command, str, str]]:
    return [
        (command, group, option)
        for group in command.groups
        for option in _options(group)
        if _is_for(command, group, option)
    ]


def _is_for(command: Command, group: str, option: str) -> bool:
    """Trainers belong to one command; presets whose names begin with ``sim_`` to ``idl sim``."""
    if group == "experiment":
        return option.startswith("sim_") == (command.name == "sim")
    if group != "trainer":
        return True
    return component_in(CONFIGS / group / f"{option}.yaml") == command.trainer


def _required(group: str, option: str) -> list[str]:
    values = _read(CONFIGS / group / f"{option}.yaml")
    return [f"{group}.{key}=there" for key, value in values.items() if value == "???"]


@pytest.mark.parametrize(
    ("command", "group", "option"),
    [choice for command in OFFERED for choice in _choices(command)],
    ids=lambda value: value.name if isinstance(value, Command) else value,
)
def test_every_option_composes_and_is_valid(command: Command, group: str, option: str) -> None:
    overrides = [f"{group}={option}", *_required(group, option)]
    needed = [
        key for key, value in _read(CONFIGS / f"{command.name}.yaml").items() if value == "???"
    ]
    overrides += [f"{key}=there" for key in needed]
    beside = BESIDE.get(command.name, ())
    overrides += [text for text in beside if not text.startswith(f"{group}=")]
    accepted = preflight(Request(command, COMMANDS, tuple(overrides), root=command.name))
    if group in command.sections:
        assert accepted.settings[group]["name"] == component_in(CONFIGS / group / f"{option}.yaml")


@pytest.mark.parametrize(
    "option", [each for each in _options("experiment") if re.match("sim_|implicit_|rnn_", each)]
)
def test_presets_of_papers_name_paper_and_published_figure(option: str) -> None:
    comment = [
        line
        for line in (CONFIGS / f"experiment/{option}.yaml").read_text().splitlines()
        if line.startswith("#")
    ]
    text = " ".join(comment)
    assert re.search(r"# Published \(.*arXiv \d{4}\.\d{5}", text)
    assert re.search(r"\d %|No accuracy is known|no accuracy is known|without numbers", text)


@pytest.mark.parametrize(("group", "name"), COMPONENTS)
def test_yaml_schema_and_constructor_have_the_same_keys(group: str, name: str) -> None:
    component = registry.find(group, name)
    written = _read(CONFIGS / group / f"{name}.yaml")
    assert _as_yaml(schema_defaults(component.schema)) == _as_yaml(written)
    keys = {
        item.name
        for item in fields(component.schema)
        if item.name != "name" and not item.metadata.get("command_only")
    }
    if component.target is None:
        assert not keys, "the command acts on all keys of what it makes itself"
        return
    parameters = set(inspect.signature(registry.load(component)).parameters)
    assert parameters - registry.runtime_arguments(group) == keys


@pytest.mark.parametrize(("group", "name"), COMPONENTS)
def test_a_constructors_defaults_are_those_of_its_options(group: str, name: str) -> None:
    component = registry.find(group, name)
    if component.target is None:
        return
    parameters = inspect.signature(registry.load(component)).parameters
    for item in fields(component.schema):
        parameter = parameters.get(item.name)
        if parameter is None or parameter.default is inspect.Parameter.empty:
            continue  # a key of the command alone, or one that Python callers must give
        if isinstance(item.default, (int, float, str, tuple)):
            assert parameter.default == item.default, item.name


def _as_yaml(value: object) -> object:
    """Tuples as lists and numbers as YAML 1.1 reads them, so that only meaning is compared."""
    if isinstance(value, dict):
        return {key: _as_yaml(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_yaml(each) for each in value]
    return value


def test_every_option_file_belongs_to_a_component() -> None:
    for group in registry.groups():
        for option in _options(group):
            assert component_in(CONFIGS / group / f"{option}.yaml") in registry.names(group)


@pytest.mark.parametrize("group", registry.groups())
def test_every_key_carries_a_comment(group: str) -> None:
    for file in sorted((CONFIGS / group).glob("*.yaml")):
        lines = file.read_text().splitlines()
        assert lines[0].startswith("# "), f"{file}: the first line says what the option is"
        for line in lines[1:]:
            leaf = re.match(r" *(\w+): +[^#\s]", line)
            if leaf and leaf[1] != "name":
                assert "  # " in line or " # " in line, f"{file}: {leaf[1]} has no comment"


@pytest.mark.parametrize("group", [*registry.groups(), *OVERLAYS])
def test_every_option_has_a_summary_of_one_line(group: str) -> None:
    for option, summary in summaries(group, [CONFIGS]).items():
        assert summary, f"{group}={option}"
        assert "\n" not in summary


def test_group_directories_are_groups() -> None:
    present = {each.name for each in CONFIGS.iterdir() if each.is_dir()}
    assert present <= {*registry.groups(), *OVERLAYS, "hydra"}


@pytest.mark.parametrize("command", OFFERED, ids=lambda command: command.name)
def test_root_keys_are_those_of_the_schema(command: Command) -> None:
    written = _read(CONFIGS / f"{command.name}.yaml")
    keys = written.keys() - {"defaults", "hydra"}
    sections = {item.name for item in fields(command.schema)} - keys
    assert sections == set(command.sections)
    defaults = {key: value for key, value in schema_defaults(command.schema).items() if key in keys}
    given = {key: written[key] for key in keys if written[key] != "???"}
    listed = {
        key: list(each) if isinstance(each, tuple) else each for key, each in defaults.items()
    }
    assert given == {key: listed[key] for key in given}


def test_summary_of_an_option_file_is_its_first_comment(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "mine.yaml").write_text("# @package _global_\n# Mine, a\n# small one.\nname: x\n")
    assert summaries("model", [tmp_path])["mine"] == "Mine, a small one."
