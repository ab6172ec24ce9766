"""The command line: which sub-command, help, version, shell completion, exit status.

Nothing here imports torch or Hydra before a sub-command needs it, so that help, version and
completion answer at once.

Exit status: 0 done, 1 the work failed, 2 the request was wrong, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from idl_cli.commands import SUB_COMMANDS, configured, module_of
from idl_cli.errors import IdlError, RankExit, RequestError, system_refusal
from idl_cli.masking import masked_text

SIGINT: Final = 2  # an interrupted command exits with 128 plus the signal's number, as shells do


_HELP: Final = """\
idl: implicit deep learning from the command line

usage: idl COMMAND [GROUP=OPTION ...] [KEY=VALUE ...] [FLAG ...]

commands:
{commands}

examples:
  idl train                                           an implicit model on the digits data set
  idl train model.hidden_dim=200 optimizer.lr=1e-3    with other values
  idl train -m optimizer.lr=1e-3,5e-3                 one run a value
  idl sim -m solver=admm,cvx,active_set               an implicit model of a teacher's states
  idl eval run=outputs/train/<date>_<time>            the model of a run
  idl compare outputs/multirun/sim/<date>_<time>      a sweep's jobs in one table
  idl list dataset                                    the options of a group

`idl COMMAND --help` shows a command's groups, keys and flags.
Shell completion: eval "$(idl -sc install=bash)" in bash; in zsh after
`autoload -Uz bashcompinit && bashcompinit`.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    Args:
        arguments: what follows ``idl``; None for those of the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(words)
    except RankExit as error:
        return error.exit_status
    except IdlError as error:
        return _failed(error, words)
    except KeyboardInterrupt as interrupt:
        sys.stderr.write("idl: interrupted\n")
        return 128 + getattr(interrupt, "signal", SIGINT)
    except BrokenPipeError:  # `idl list | head`
        sys.stderr.close()
        return 0
    except OSError as error:
        sentence = system_refusal(error)
        if sentence is None:
            raise
        return _failed(IdlError(sentence), words)


def entry() -> NoReturn:
    """The program: :func:`main`, and the end of its process."""
    status = main()
    if {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        from idl_cli.distributed.process import exit_without_destructors

        exit_without_destructors(status)
    raise SystemExit(status)


def _dispatch(words: list[str]) -> int:
    first = words[0] if words else "--help"
    if first in ("--help", "-h", "help"):
        sys.stdout.write(help_text())
        return 0
    if first in ("--version", "-V"):
        from idl_cli import __version__

        sys.stdout.write(f"idl {__version__}\n")
        return 0
    if {"-sc", "--shell-completion"} & set(words):
        from idl_cli import completion

        return completion.main(words, SUB_COMMANDS, module_of)
    if first not in SUB_COMMANDS:
        raise RequestError(_unknown(first))
    module = module_of(first)
    command = getattr(module, "COMMAND", None)
    if command is None:
        status: int = module.main(words[1:])
        return status
    from idl_cli import hydra_app
    from idl_cli.jobs.job import Job

    return hydra_app.main(Job(command, configured()), words[1:])


def help_text() -> str:
    """What ``idl --help`` prints."""
    width = max(map(len, SUB_COMMANDS))
    lines = (f"  {name:{width}}  {summary}" for name, summary in SUB_COMMANDS.items())
    return _HELP.format(commands="\n".join(lines))


def _unknown(word: str) -> str:
    import difflib

    kind = "flag" if word.startswith("-") else "command"
    close = difflib.get_close_matches(word, SUB_COMMANDS, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]}?" if close else "."
    return f"no {kind} {word!r}{hint} Commands: {', '.join(SUB_COMMANDS)} (`idl --help`)"


def _failed(error: IdlError, words: Sequence[str]) -> int:
    title = f"idl {words[0]}" if words and words[0] in SUB_COMMANDS else "idl"
    problems = getattr(error, "problems", ())
    if len(problems) > 1:
        lines = [f"{title}: {len(problems)} mistakes; nothing was started", *problems]
        sys.stderr.write(masked_text("\n  ".join(lines)) + "\n")
    else:
        sys.stderr.write(masked_text(f"{title}: {error}") + "\n")
    return error.exit_status
