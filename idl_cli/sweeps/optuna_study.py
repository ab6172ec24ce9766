"""Studies by Optuna: their direction, and what is left of one that was begun before.

Hydra's sweeper runs ``n_trials`` more whenever it meets a study again. Here ``n_trials`` is what
the study is to have in all: trials whose jobs did not finish are put back in front, and only
those missing are asked for.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, TrialState

from idl_cli.analysis.ranking import is_higher_better
from idl_cli.errors import ConfigError, RunError
from idl_cli.jobs.parallel import jobs_at_once
from idl_cli.reporting import Reporter
from idl_cli.sweeps.sweep_plan import SweepPlan

STUDY: Final = "study.db"
"""In the sweep's directory: the study, where the user keeps it nowhere else."""

_TARGET: Final = "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"
_SQLITE: Final = "sqlite:///"


def is_study(hydra: DictConfig) -> bool:
    """Whether Hydra's part of a configuration asks for a study."""
    return str(hydra.sweeper._target_) == _TARGET


def prepare_study(
    hydra: DictConfig,
    settings: Mapping[str, Any],
    given: frozenset[str],
    plan: SweepPlan,
    console: Reporter,
) -> list[str]:
    """Make a study ready to start or go on.

    Where the user says nothing, a study is kept in ``study.db`` in the sweep's directory, goes on
    whatever share of its trials fails, chooses as many trials at once as the launcher runs, and
    takes its direction from the metric.

    Args:
        hydra: Hydra's part of the configuration.
        settings: the checked settings of the command.
        given: keys that the user has given.
        plan: of the sweep.
        console: told what is left of a study that goes on.

    Returns:
        Overrides for Hydra.

    Raises:
        ConfigError: there is no metric to improve, or no single direction.
        RunError: the study cannot be read.
    """
    sweeper = hydra.sweeper
    wanted = int(sweeper.n_trials)
    launcher = OmegaConf.to_container(hydra.launcher, resolve=False)
    assert isinstance(launcher, dict)
    direction = _direction(hydra, settings, given)
    chosen: dict[str, object] = {
        "direction": direction,
        "storage": sweeper.storage or f"{_SQLITE}{plan.directory.absolute()}/{STUDY}",
        "study_name": sweeper.study_name or plan.command,
        "max_failure_rate": sweeper.max_failure_rate or 1.0,
        "n_jobs": jobs_at_once({str(k): v for k, v in launcher.items()}, wanted),
    }
    for key in chosen:
        if f"hydra.sweeper.{key}" in given:
            chosen[key] = sweeper[key]
    if chosen["storage"] is not None:
        chosen.update(_go_on(hydra, chosen, plan, console))
    return [f"hydra.sweeper.{key}={_quoted(value)}" for key, value in chosen.items()]


def _go_on(
    hydra: DictConfig, chosen: Mapping[str, object], plan: SweepPlan, console: Reporter
) -> dict[str, object]:
    """What a study that was begun before needs to go on; nothing for a new one."""
    wanted = int(hydra.sweeper.n_trials)
    with quiet():
        study = _study(
            str(chosen["storage"]), str(chosen["study_name"]), _word(chosen["direction"])
        )
        trials = study.trials
        if not trials:
            return {}
        left = _put_back(study, plan, wanted)
    _tell(study.study_name, trials, left, wanted, console)
    seed = OmegaConf.select(hydra, "sweeper.sampler.seed")
    if seed is None:
        return {"n_trials": left}
    # With the same seed again, the first points would come again too.
    return {"n_trials": left, "sampler.seed": int(seed) + len(trials)}


def _direction(hydra: DictConfig, settings: Mapping[str, Any], given: frozenset[str]) -> str:
    asked = hydra.sweeper.direction
    if OmegaConf.is_config(asked):
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
    if "hydra.sweeper.direction" in given:
        return _word(asked)
    # The metric by default is the validation accuracy or R².
    return "maximize" if metric is None or is_higher_better(metric) else "minimize"


def _word(direction: object) -> str:
    """A direction given as text or as a member of Hydra's enumeration."""
    return str(direction).rpartition(".")[2]


def _quoted(value: object) -> str:
    if value is None:
        return "null"
    text = str(value).replace("'", r"\'")
    return f"'{text}'" if isinstance(value, str) and not value.isalpha() else text


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
    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    done = {overrides_of(trial) for trial in complete}
    useless: set[tuple[str, ...]] = set()
    again: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for trial in study.trials:
        if trial.state == TrialState.RUNNING:  # of a process that was killed
            study.tell(trial.number, state=TrialState.FAIL)
        overrides = overrides_of(trial)
        if overrides in done:  # a trial that failed may have been run again since
            continue
        if _has_finished(trial, plan):
            useless.add(overrides)
        elif trial.state != TrialState.WAITING and trial.params:
            again[overrides] = trial.params
    left = max(wanted - len(complete) - len(useless), 0)
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
