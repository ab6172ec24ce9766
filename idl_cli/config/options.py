"""Where configurations lie on disk and which options a group has: by file names alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from idl_cli.errors import ConfigError, file_refusal

OVERLAYS: Final = ("experiment", "debug", "local")
"""Groups whose options change keys all over the configuration instead of filling one section."""


LARGEST: Final = 1 << 24
"""Bytes of a YAML file; a whole configuration has a few thousand."""


def config_directory() -> Path:
    """The project's own configurations: those packed in the wheel, else the checkout's."""
    package = Path(__file__).resolve().parents[1]
    packed = package / "configs"
    return packed if packed.is_dir() else package.parent / "configs"


def option_files(group: str, directories: Iterable[Path]) -> dict[str, Path]:
    """The YAML files of a group's options by option name; the first directory that has one wins.

    Files and folders whose names begin with an underscore are parts of options, no options.
    """
    found: dict[str, Path] = {}
    for directory in directories:
        root = directory / group
        for file in sorted(root.rglob("*.yaml")):
            option = file.relative_to(root).with_suffix("")
            if not (any(part.startswith("_") for part in option.parts) or file.is_dir()):
                found.setdefault(option.as_posix(), file)
    return found


def text_of(file: Path) -> str:
    """The text of a YAML file.

    Raises:
        ConfigError: it cannot be read, is no file or no text in UTF-8.
    """
    refusal = file_refusal(file, LARGEST)
    if refusal is not None:
        raise ConfigError([f"{file}: {refusal}"])
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{file}: cannot be read ({error})"]) from error


def summary_in(file: Path) -> str:
    """The first comment of a YAML file, on one line."""
    return " ".join(_first_comment(file))


def _first_comment(file: Path) -> Iterator[str]:
    for line in text_of(file).splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("#"):
            return
        yield line.lstrip("# ").strip()


def component_in(file: Path) -> str | None:
    """The component that an option's YAML names, None when its ``name:`` is inherited."""
    found = re.search(r"^name:\s*[\"']?([\w.-]+)", text_of(file), re.MULTILINE)
    return found[1] if found else None


def defaults_in(root: Path) -> dict[str, str]:
    """The option that a root configuration chooses in each group by itself."""
    text = text_of(root)
    return dict(re.findall(r"^ +- (?:optional )?(\w+): (\w+)", text, re.MULTILINE))


def overridden_groups(file: Path) -> tuple[str, ...]:
    """The groups in which a preset's YAML chooses an option of its own."""
    found = re.findall(r"^ *- override /(\w+):", text_of(file), re.MULTILINE)
    return tuple(dict.fromkeys(found))
