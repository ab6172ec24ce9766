"""The pages of the site that are made from the code: commands, keys, the tutorial.

MkDocs calls ``on_config`` and ``on_files`` while it builds (``hooks`` in mkdocs.yml); the pages are
made anew every time, so they cannot fall behind the schemas and the comments in ``configs/``.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idl_cli import registry
from idl_cli.commands import SUB_COMMANDS, configured, module_of
from idl_cli.config.check import MISSING_VALUE
from idl_cli.config.describe import shown
from idl_cli.config.keys import comments_in, key_facts
from idl_cli.config.options import (
    OVERLAYS,
    component_in,
    config_directory,
    defaults_in,
    option_files,
    summary_in,
)
from idl_cli.requests.help_page import FLAGS
from idl_cli.requests.specification import Command

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

_DOCS = Path(__file__).resolve().parent


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Leave out of the navigation what is not there."""
    made = {"reference/commands.md", "reference/keys.md", "tutorial.md"}
    config.nav = [each for each in (_present(part, made) for part in config.nav or []) if each]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    from mkdocs.structure.files import File

    made = {
        "reference/commands.md": commands_page(),
        "reference/keys.md": keys_page(),
        "tutorial.md": tutorial_page(),
    }
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    return files


def _present(part: Any, made: set[str]) -> Any:
    """A part of the navigation without the pages that are not there; None when nothing is left."""
    if isinstance(part, str):
        return part if part in made or (_DOCS / part).exists() else None
    ((title, below),) = part.items()
    if isinstance(below, list):
        kept = [each for each in (_present(each, made) for each in below) if each]
        return {title: kept} if kept else None
    return part if _present(below, made) else None


# -- every key -----------------------------------------------------------------------------------


def keys_page() -> str:
    """Every key of every option of every group: default, what is allowed, meaning."""
    return "\n".join(_keys_lines()) + "\n"


def _keys_lines() -> Iterator[str]:
    yield "# Every configuration key\n"
    yield (
        "Keys are given as `KEY=VALUE`, options as `GROUP=OPTION`; see"
        " [configuration](../configuration.md). A key's default is that of its option; presets may"
        " change it.\n"
    )
    for command in configured():
        yield f"## Root keys of `idl {command}`\n"
        schema = _root_schema(command)
        comments = comments_in(config_directory() / f"{command}.yaml")
        plain = {item.name for item in fields(schema)} - set(registry.groups())
        yield from _table(schema, comments, "", only=plain)
    for group in registry.groups():
        yield f"## `{group}`\n"
        for option, file in option_files(group, [config_directory()]).items():
            yield from _option_lines(group, option, file)
    for group in OVERLAYS:
        if group != "local":
            yield f"## `{group}`\n"
            yield "Changes keys all over the configuration.\n"
            yield "| option | what |\n|---|---|"
            for option, file in option_files(group, [config_directory()]).items():
                yield f"| `{group}={option}` | {_cell(summary_in(file))} |"
            yield ""


def _option_lines(group: str, option: str, file: Path) -> Iterator[str]:
    name = component_in(file)
    if name != option:
        yield f"### `{group}={option}`\n\n{_cell(summary_in(file))}\n"
        if name is not None:
            yield f"The keys are those of `{group}={name}`.\n"
        return
    schema = registry.schema_of(group, option)
    yield f"### `{group}={option}`\n\n{_cell(summary_in(file))}\n"
    yield from _table(schema, comments_in(file), f"{group}.")


def _table(
    schema: type, comments: Mapping[str, str], prefix: str, only: set[str] | None = None
) -> Iterator[str]:
    rows = [
        row
        for row in key_facts(schema, comments)
        if only is None or row.key.partition(".")[0] in only
    ]
    if not rows:
        yield "No keys.\n"
        return
    yield "| key | default | allowed | meaning |\n|---|---|---|---|"
    for row in rows:
        default = "must be given" if row.default == MISSING_VALUE else f"`{shown(row.default)}`"
        cells = (f"`{prefix}{row.key}`", default, _cell(row.allowed), _cell(row.meaning))
        yield f"| {' | '.join(cells)} |"
    yield ""


def _cell(text: str) -> str:
    """A text as it may stand in a cell: bars and what looks like HTML are made harmless."""
    return text.replace("|", "\\|").replace("<", "&lt;")


# -- every command -------------------------------------------------------------------------------


def commands_page() -> str:
    """Every sub-command: what it does, its groups and their defaults, or its own help."""
    return "\n".join(_command_lines()) + "\n"


def _command_lines() -> Iterator[str]:
    yield "# Every command\n"
    yield (
        "`idl --help` lists them; `idl COMMAND OPTIONS --help` shows the options, keys and flags of"
        " one, with the values they have for the options given.\n"
    )
    commands = configured()
    for name, summary in SUB_COMMANDS.items():
        yield f"## `idl {name}`\n\n{summary[0].upper()}{summary[1:]}.\n"
        if name in commands:
            yield from _groups_lines(commands[name])
        else:
            yield f"```text\n{_help(name)}\n```\n"
    yield f"## Flags\n\nOf the commands that take options ({', '.join(commands)}):\n"
    yield "| flag | what |\n|---|---|"
    yield from (f"| `{flag}` | {_cell(what)} |" for flag, what in FLAGS.items())


def _groups_lines(command: Command) -> Iterator[str]:
    root = config_directory() / f"{command.name}.yaml"
    defaults = defaults_in(root) if root.exists() else {}
    yield "| group | default | options |\n|---|---|---|"
    for group in command.sections:
        options = ", ".join(f"`{each}`" for each in option_files(group, [config_directory()]))
        yield f"| `{group}` | `{defaults.get(group, 'null')}` | {options} |"
    yield "\nIts root keys and those of the options: [every key](keys.md).\n"


def _help(name: str) -> str:
    shown_help = io.StringIO()
    with redirect_stdout(shown_help), suppress(SystemExit):  # as argparse ends its help
        module_of(name).main(["--help"])
    return shown_help.getvalue().strip()


def _root_schema(command: str) -> type:
    return configured()[command].schema


# -- the tutorial --------------------------------------------------------------------------------


def tutorial_page() -> str:
    """The notebook as a page: its text as it is, its code in blocks."""
    import nbformat

    notebook = nbformat.read(_DOCS / "tutorial.ipynb", as_version=4)
    parts = [
        cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```"
        for cell in notebook.cells
    ]
    return "\n\n".join(parts) + "\n"
