"""Commands that take the model of a finished run and train nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from idl_cli.requests.specification import Command


def with_dataset_of_run(overrides: Sequence[str]) -> list[str]:
    """Put the run's own data set before keys that change it; needs Hydra's parser."""
    from idl_cli.requests.run_dataset import with_dataset_of_run as completed

    return completed(overrides)


def command_on_run(
    name: str,
    schema: type,
    work: Callable[..., dict[str, object]],
    *,
    example: str = "run=DIR",
    complete_overrides: Callable[[Sequence[str]], list[str]] = with_dataset_of_run,
    elsewhere: Mapping[str, str] | None = None,
) -> Command:
    """Return the command; arguments as the attributes of ``Command``.

    Args:
        name: see there.
        schema: see there.
        work: see there.
        example: see there.
        complete_overrides: see there.
        elsewhere: beside, or in place of, what is said of training and its presets.
    """
    training = f"`idl {name}` trains nothing; use `idl train`"
    return Command(
        name=name,
        schema=schema,
        work=work,
        complete_overrides=complete_overrides,
        example=example,
        elsewhere={
            "model": f"`idl {name}` takes the model from run=DIR",
            "trainer": training,
            "optimizer": training,
            "scheduler": training,
            "experiment": f"presets say how to train; `idl {name}` takes all from run=DIR",
            "debug": f"`idl {name}` has no quick looks; they are of `idl train` and `idl sim`",
            **(elsewhere or {}),
        },
    )
