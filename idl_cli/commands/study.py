"""Studies by Optuna: their direction, and what is left of one that was begun before.

Hydra's sweeper runs ``n_trials`` more whenever it meets a study again. Here ``n_trials`` is what
the study is to have in all: trials whose jobs did not finish are put back in front, and only
those missing are asked for.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, TrialState

from idl_cli.commands.sweep_plan import SweepPlan
from idl_cli.config.metrics import is_higher_better
from idl_cli.errors import ConfigError, RunError
from idl_cli.reporting import Reporter

_TARGET: Final = "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"
_SQLITE: Final = "sqlite:///"


def is_study(hydra: DictConfig) -> bool:
    """Whether Hydra's part of a configuration asks for a study."""
    return str(hydra.sweeper._target_) == _TARGET


def prepare_study(
    hydra: DictConfig, settings: Mapping[str, Any], plan: SweepPlan, console: Reporter
) -> list[str]:
    """Make a study ready to start or go on.

    Args:
        hydra: Hydra's part of the configuration.
        settings: the checked settings of the command.
        plan: of the sweep.
        console: told what is left of a study that goes on.

    Returns:
        Overrides for Hydra: the direction, and how many trials are missing.

    Raises:
        ConfigError: there is no metric to improve, or no single direction.
        RunError: the study cannot be read.
    """
    direction = _direction(hydra, settings)
    overrides = [f"hydra.sweeper.direction={direction}"]
    storage = hydra.sweeper.storage
    if storage is None:
        return overrides
    storage = _in_directory(str(storage), hydra, plan.directory)
    with quiet():
        study = _study(storage, str(hydra.sweeper.study_name), direction)
        trials = study.trials
        if not trials:
            return overrides
        left = _put_back(study, plan, int(hydra.sweeper.n_trials))
    _tell(study.study_name, trials, left, int(hydra.sweeper.n_trials), console)
    seed = OmegaConf.select(hydra, "sweeper.sampler.seed")
    if seed is not None:  # with the same one again, the first points would come again too
        overrides.append(f"hydra.sweeper.sampler.seed={int(seed) + len(trials)}")
    return [*overrides, f"hydra.sweeper.n_trials={left}"]


def _direction(hydra: DictConfig, settings: Mapping[str, Any]) -> str:
    given = hydra.sweeper.direction
    if OmegaConf.is_config(given):
        raise ConfigError(
            ["hydra.sweeper.direction: one figure is improved, so give one direction, not a list"]
        )
    metric = settings["optimized_metric"]
    validated = (settings.get("dataset") or {}).get("validation_fraction")
    if metric is None and not validated:
        raise ConfigError(
            [
                "optimized_metric: a study needs a figure to improve and there is no validation "
                "part; give one, such as optimized_metric=test_accuracy"
            ]
        )
    if given is not None:
        return str(given).rpartition(".")[2]
    # The metric by default is the validation accuracy or R².
    return "maximize" if metric is None or is_higher_better(metric) else "minimize"


def _in_directory(storage: str, hydra: DictConfig, directory: Path) -> str:
    """The storage with the sweep's directory as it is, not as it was before it was claimed."""
    composed = f"{_SQLITE}{hydra.sweep.dir}/"
    if storage.startswith(composed):
        return f"{_SQLITE}{directory}/{storage.removeprefix(composed)}"
    return storage


def _study(storage: str, name: str, direction: str) -> optuna.Study:
    try:
        study = optuna.create_study(
            study_name=name, storage=storage, direction=direction, load_if_exists=True
        )
    except Exception as error:
        # SQLAlchemy and alembic raise errors of many kinds for files that they cannot use.
        reason = str(error).strip().partition("\n")[0]
        raise RunError(f"hydra.sweeper.storage={storage}: cannot be used ({reason})") from error
    if study.direction.name.lower() != direction:
        raise ConfigError(
            [
                f"hydra.sweeper.direction={direction}: study {name} in {storage} is to "
                f"{study.direction.name.lower()}; keep that, or give another "
                "hydra.sweeper.study_name"
            ]
        )
    return study


def _put_back(study: optuna.Study, plan: SweepPlan, wanted: int) -> int:
    """Put trials whose jobs did not finish in front of the queue; return how many are missing."""
    counted = 0
    again: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for trial in study.trials:
        if trial.state == TrialState.RUNNING:  # of a process that was killed
            study.tell(trial.number, state=TrialState.FAIL)
        if trial.state == TrialState.COMPLETE or _has_finished(trial, plan):
            counted += 1
        elif trial.state != TrialState.WAITING and trial.params:
            again[overrides_of(trial)] = trial.params
    left = max(wanted - counted, 0)
    waiting = sum(trial.state == TrialState.WAITING for trial in study.trials)
    for params in list(again.values())[: max(left - waiting, 0)]:
        study.enqueue_trial(dict(params))
    return left


def _has_finished(trial: FrozenTrial, plan: SweepPlan) -> bool:
    """Whether a trial's job completed, though its figure could not be used (NaN)."""
    number = plan.find(overrides_of(trial))
    return (
        trial.state == TrialState.FAIL and number is not None and plan.status(number) == "completed"
    )


def overrides_of(trial: FrozenTrial) -> tuple[str, ...]:
    """Return the overrides of a trial's job: its parameters, and those that were fixed."""
    return tuple(f"{key}={value}" for key, value in {**trial.params, **trial.user_attrs}.items())


def _tell(name: str, trials: list[FrozenTrial], left: int, wanted: int, console: Reporter) -> None:
    complete = sum(trial.state == TrialState.COMPLETE for trial in trials)
    console.message(
        f"study {name} goes on: {complete} of {wanted} trials complete, {left} to run "
        "(hydra.sweeper.n_trials is the number in all)"
    )


def run_study(launch: Callable[[], int]) -> int:
    """Run a study; that none of its trials completed is told by the table of its jobs."""
    with quiet():
        try:
            return launch()
        except ValueError as error:
            if "No trials are completed yet" not in str(error):
                raise
            return 0


@contextmanager
def quiet() -> Iterator[None]:
    """Keep to ourselves what Optuna and its database say about their own workings."""
    import logging

    loggers = [logging.getLogger(name) for name in ("alembic", "optuna")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            for module in ("optuna", "sqlalchemy", "alembic"):
                warnings.filterwarnings("ignore", category=DeprecationWarning, module=module)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
