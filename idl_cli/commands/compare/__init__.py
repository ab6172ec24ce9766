"""``idl compare DIR…``: one table over runs and sweeps, for the terminal, a file or a paper."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

_EPILOGUE: Final = """\
examples:
  idl compare outputs/multirun/sim/<date>_<time>        the jobs of a sweep
  idl compare outputs --sort seconds                    every run below a folder
  idl compare A B --columns solver,test_accuracy        two runs, two columns
  idl compare SWEEP --over seed                         mean ± deviation over seeds
  idl compare SWEEP --format latex --output table.tex   for a paper (booktabs)
  idl compare SWEEP --plots figures                     plots chosen from what varied

"""
FORMATS: Final = ("table", "markdown", "latex", "csv", "json")
_WITH_VALUE: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "--sort": (),
        "--columns": (),
        "--over": ("seed ",),
        "--format": tuple(f"{each} " for each in FORMATS),
        "--output": (),
        "--plots": (),
    }
)
"""Flags that take a value, and what is offered for it."""
_WITHOUT: Final = ("--ascending", "--descending")


def main(arguments: Sequence[str]) -> int:
    """Print or write a comparison of runs."""
    flags = parser().parse_intermixed_args(list(arguments))
    from idl_cli.commands.compare.comparison_table import compare

    compare(flags)
    return 0


def completions(words: Sequence[str], current: str) -> Iterator[str]:
    """What the last word can become: a flag, its value, a path."""
    from idl_cli.completion import paths

    before = words[-1] if words else ""
    if current.startswith("-"):
        yield from (f"{flag} " for flag in (*_WITH_VALUE, *_WITHOUT))
    elif _WITH_VALUE.get(before):
        yield from _WITH_VALUE[before]
    elif before not in ("--sort", "--columns", "--over"):
        yield from paths(current)


def parser() -> argparse.ArgumentParser:
    """The flags of ``idl compare``."""
    made = argparse.ArgumentParser(
        prog="idl compare",
        description="One table over runs and sweeps: what varied, what came out, what failed.",
        epilog=_EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "directories",
        nargs="+",
        metavar="DIR",
        type=Path,
        help="a run, a sweep, or a folder of them, searched at any depth",
    )
    made.add_argument(
        "--sort",
        metavar="COLUMN",
        help="sort by it; otherwise by the validation metric, else the test metric, best first",
    )
    order = made.add_mutually_exclusive_group()
    order.add_argument(
        "--ascending",
        dest="descending",
        action="store_false",
        default=None,
        help="smallest first; otherwise the best, where a column has such",
    )
    order.add_argument(
        "--descending", dest="descending", action="store_true", default=None, help="largest first"
    )
    made.add_argument(
        "--columns",
        metavar="A,B",
        help="show these: keys of the configuration, figures of summary.json, run, status, "
        "command, error, dir",
    )
    made.add_argument(
        "--over",
        metavar="KEY",
        help="mean ± standard deviation (n - 1) over runs that differ in it, such as seed",
    )
    made.add_argument(
        "--format",
        choices=FORMATS,
        help="table, markdown, latex (booktabs), csv or json; by default what the output's name "
        "says (.md, .tex, .csv, .json), else table. csv and json hold every figure unless "
        "--columns says otherwise",
    )
    made.add_argument("--output", metavar="FILE", type=Path, help="write there, not to the screen")
    made.add_argument(
        "--plots",
        metavar="DIR",
        type=Path,
        help="write plots chosen from what varied there: a curve, a heat map, bars, trade-offs",
    )
    return made
