"""Options of a training that could not act in it: refused, or said."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, Final

import torch

from idl_cli import registry
from idl_cli.assembly.requested import GradientRequest, SimRequest, TeacherRequest
from idl_cli.config.check import schema_defaults
from idl_cli.data.dataset import Dataset
from idl_cli.errors import ConfigError, IgnoredOptionWarning
from idl_cli.sim.options import SimTrainerOptions
from idl_cli.training.robust.settings import PerturbationSettings

_DEFAULT_DELTA = 0.0
_ONLY_WITH: Final = MappingProxyType(
    {
        "select_lambda": ("lambda_grid",),
        "path": ("baselines", "prune_zeros", "prune_epochs", "prune_baseline"),
    }
)
_ONLY_WHERE: Final = (
    ("forward.window", "forward.method", ("anderson", "auto")),
    ("forward.regularization", "forward.method", ("anderson", "auto")),
    ("backward.window", "backward.method", ("anderson", "auto")),
    ("backward.regularization", "backward.method", ("anderson", "auto")),
    ("backward.max_iter", "backward.method", ("picard", "anderson", "auto")),
    ("backward.tol", "backward.method", ("picard", "anderson", "auto")),
    ("backward.steps", "backward.method", ("neumann", "phantom")),
    ("backward.damping", "backward.method", ("phantom",)),
    ("backward.report_error", "backward.method", ("jacobian_free", "neumann", "phantom", "shine")),
    ("kappa", "well_posedness", ("linf",)),
)
"""Keys of a model that act only with certain values of another one."""


def refuse_idle_options(settings: GradientRequest, dataset: Dataset, device: torch.device) -> None:
    """Refuse to watch a validation part that is not there; warn of what lies beyond the run.

    Args:
        settings: of the training.
        dataset: its data.
        device: where it computes.

    Raises:
        ConfigError: early stopping without a validation part.
    """
    stopping = settings.trainer["early_stopping"]
    patience, delta, metric = (stopping[key] for key in ("patience", "min_delta", "metric"))
    asked = {
        "patience": patience is not None,
        "min_delta": delta != _DEFAULT_DELTA,
        "metric": metric != "auto",
    }
    if dataset.validation is None and any(asked.values()):
        key = next(key for key, given in asked.items() if given)
        raise ConfigError(
            [
                f"trainer.early_stopping.{key}={stopping[key]}: dataset.validation_fraction=0"
                " leaves no validation part to watch; set it above 0, such as 0.1, or leave"
                f" trainer.early_stopping.{key} out"
            ]
        )
    if patience is None and asked["min_delta"]:
        _warn(
            f"trainer.early_stopping.min_delta={delta:g}: without trainer.early_stopping.patience"
            " no epoch is waited for, and it has no effect"
        )
    epochs = settings.trainer["epochs"]
    warmup = settings.scheduler.get("warmup_epochs", 0.0)
    if warmup > epochs:
        _warn(
            f"scheduler.warmup_epochs={warmup:g}: longer than the training, trainer.epochs={epochs}"
            "; the learning rate ends before it has grown to optimizer.lr"
        )
    every = settings.scheduler.get("every_epochs", 0.0)
    if every > epochs:
        _warn(
            f"scheduler.every_epochs={every:g}: the training ends before, with"
            f" trainer.epochs={epochs}; the learning rate never drops"
        )
    _warn_of_idle_perturbation(settings.trainer)
    _warn_of_idle_model_options(settings.model)
    if settings.model.get("cuda_graphs") and device.type != "cuda":
        _warn(f"model.cuda_graphs=true: is for a GPU, and has no effect with device={device}")
    optimizer = settings.optimizer
    if optimizer.get("dampening") and not optimizer["momentum"]:
        _warn(
            f"optimizer.dampening={optimizer['dampening']:g}: dampens what momentum adds, and has"
            " no effect with optimizer.momentum=0"
        )
    steps = dataset.task.input_shape[0] if dataset.task.sequence else 0
    truncate = settings.model.get("truncate")
    if truncate is not None and truncate >= steps:
        _warn(f"model.truncate={truncate}: has no effect on sequences of {steps} steps")
    if settings.trainer["keep_sparsity"] and settings.model.get("init_run") is None:
        _warn(
            "trainer.keep_sparsity=true: the weights of a new model are hardly ever zero; give"
            " model.init_run=DIR, a run whose zeros are to stay"
        )


def _warn_of_idle_perturbation(trainer: Mapping[str, Any]) -> None:
    robust, given = trainer["robust"], trainer["perturbation"]
    usual = asdict(PerturbationSettings())
    for key, value in usual.items():
        if given[key] == value:
            continue
        if robust == "none":
            _warn(f"trainer.perturbation.{key}: has no effect with trainer.robust=none")
        elif robust != "adversarial" and key.startswith("attack_"):
            _warn(
                f"trainer.perturbation.{key}={given[key]}: is for trainer.robust=adversarial, and"
                f" has no effect with {robust}"
            )
    if robust != "none":
        whole = given["clean_epochs"] + given["ramp_epochs"]
        if whole > trainer["epochs"]:
            _warn(
                f"trainer.perturbation.ramp_epochs={given['ramp_epochs']:g}: with clean_epochs="
                f"{given['clean_epochs']:g} longer than the training, trainer.epochs="
                f"{trainer['epochs']}; it ends before epsilon={given['epsilon']:g} is reached"
            )


def _warn_of_idle_model_options(model: Mapping[str, Any]) -> None:
    usual = schema_defaults(registry.schema_of("model", model["name"]))
    for key, other, values in _ONLY_WHERE:
        given, chosen = _value(model, key), _value(model, other)
        if chosen is None:  # a model without that choice
            continue
        if given != _value(usual, key) and chosen not in values:
            start = "; it bounds the initial weights alone" if key == "kappa" else ""
            _warn(
                f"model.{key}={given:g}: is for model.{other}={' or '.join(values)}, and has no"
                f" effect with {chosen}{start}"
            )


def _value(section: Any, key: str) -> Any:
    for part in key.split("."):
        section = section.get(part) if isinstance(section, Mapping) else None
    return section


def warn_of_idle_sim_options(settings: SimRequest) -> None:
    """Warn of options of a path, a choice of λ or a teacher's training where there is none."""
    defaults = schema_defaults(SimTrainerOptions)
    for needed, keys in _ONLY_WITH.items():
        if settings.trainer[needed] is None:
            for key in keys:
                if settings.trainer[key] != defaults[key]:
                    _warn(f"trainer.{key}: has no effect without trainer.{needed}")
    trainer = settings.trainer
    if trainer["select_lambda"] != "certified":
        for key in ("select_epsilon", "select_samples"):
            if trainer[key] != defaults[key]:
                _warn(f"trainer.{key}: has no effect without trainer.select_lambda=certified")
    if trainer["path"] is not None and not trainer["prune_baseline"]:
        for key in ("baselines", "prune_zeros", "prune_epochs"):
            if trainer[key] != defaults[key]:
                _warn(f"trainer.{key}: has no effect with trainer.prune_baseline=false")
    warn_of_idle_teacher_options(settings)


def warn_of_idle_teacher_options(settings: TeacherRequest) -> None:
    """Warn of options of a network, or of its training, that is there already."""
    teacher = settings.teacher
    source = next((key for key in ("run", "file") if teacher.get(key) is not None), None)
    if source is None:
        return
    usual = schema_defaults(registry.schema_of("teacher", teacher["name"]))
    idle = usual.keys() - {"name", "run", "states"}
    if source == "file":
        idle = usual.keys() & {"epochs", "batch_size", "lr"}
    for key in sorted(idle):
        if teacher[key] != usual[key]:
            _warn(
                f"teacher.{key}: has no effect beside teacher.{source}={teacher[source]}, whose"
                " network is taken as it is"
            )


def _warn(sentence: str) -> None:
    warnings.warn(sentence, IgnoredOptionWarning, stacklevel=4)
