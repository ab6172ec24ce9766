"""``idl train``: from checked settings to a trained model in a run directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, cast

from torch import nn

from idl_cli.analysis.curves import iteration_curves, learning_curves
from idl_cli.analysis.feature_maps import distinct, kernel_pictures, map_pictures
from idl_cli.assembly.compute import RunContext, begin
from idl_cli.assembly.measure import METRIC_NAMES, metrics_of, show_figures, timed_evaluation
from idl_cli.assembly.objects import (
    Loaders,
    build_dataset,
    build_model,
    build_trainer,
    model_arguments,
)
from idl_cli.assembly.optimized_metric import check_metric
from idl_cli.assembly.run_data import record_data
from idl_cli.assembly.sequence_report import SequenceReport, report_sequences
from idl_cli.commands.train.dry_run import dry_run, plan
from idl_cli.commands.train.recorder import Recorder
from idl_cli.commands.train.resumption import Resumption, find_resumption
from idl_cli.commands.train.settings import TrainSettings
from idl_cli.data.dataset import Dataset
from idl_cli.distributed.process import watch_signals
from idl_cli.evaluation.loop import evaluation_mode
from idl_cli.loggers import RunLogger, open_logger
from idl_cli.models.convolutional.implicit_conv import ImplicitConv
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.parameter_count import parameter_count
from idl_cli.reporting import Reporter
from idl_cli.run import RunDirectory, collect_environment, read_metrics
from idl_cli.training.progress import TrainingResult
from idl_cli.training.rng_state import seed_rank
from idl_cli.training.trainer import Trainer
from idl_cli.training.weight_average import kept_weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_IMAGES: Final = 6  # whose feature maps are drawn


def run(settings: TrainSettings, directory: RunDirectory, console: Reporter) -> dict[str, object]:
    """Train a model and leave behind what DESIGN promises of a run.

    Several ranks run this together, and the first one alone reports.

    The model kept is the best one by the validation metric; without a validation part it is the
    last one, since nothing but the test part would be left to choose by. All figures in
    ``metrics`` are of the model that is kept, measured anew on each part.

    Args:
        settings: checked.
        directory: of this run, locked.
        console: told what happens.

    Returns:
        ``metrics`` and the section ``training`` of ``summary.json``; on the ranks that do not
        report, empty ``metrics``.

    Raises:
        IdlError: the work cannot be done; the message says why.
        KeyboardInterrupt: SIGINT or SIGTERM came; the run can be resumed.
    """
    context = begin(settings, directory, console)
    compute, group = context.compute, context.group
    # Ranks may be on machines that do not see each other's files.
    resumption = group.broadcast_object(
        find_resumption(settings, directory) if group.is_main else None
    )
    directory.write_json("environment.json", collect_environment(compute.device, directory.command))
    dataset = build_dataset(settings, group)
    if group.is_main and not settings.trainer["dry_run"]:
        record_data(dataset, directory, None if resumption is None else resumption.path)
    check_metric(settings.optimized_metric, dataset, own=settings.robust_figures())
    for assumption in dataset.assumptions:
        console.message(f"assumed: {assumption}")
    model, dataset = build_model(settings, dataset, compute, group)
    loaders = Loaders(dataset, context)
    trainer = build_trainer(context, dataset, model, loaders)
    seed_rank(settings.seed, group.rank)  # the weights, which all ranks draw alike, are drawn
    console.facts("run", plan(settings, dataset, model, trainer))
    if settings.trainer["dry_run"]:
        return dry_run(dataset, trainer, console)
    resumed_step = _resume(trainer, resumption, context)
    with open_logger(
        asdict(settings), directory if group.is_main else None, resumed_step=resumed_step
    ) as logger:
        result = _fit(trainer, logger, context)
        figures = _evaluate_kept_model(trainer, loaders, result, directory)
        logger.log(_test_row(figures["test"], trainer, result))
        if not group.is_main:
            return {"metrics": {}}
        _save(model, dataset, result, context)
        extra = report_sequences(model, dataset, int(settings.trainer["batch_size"]), context)
        report = _report(figures, result, model, extra, context)
        logger.finish(report["metrics"])
    return report


# -- training --------------------------------------------------------------------------------------


def _resume(
    trainer: Trainer, resumption: Resumption | None, context: RunContext[TrainSettings]
) -> int | None:
    """Bring the trainer to the checkpoint; return its step, None where the run starts anew."""
    if resumption is None:
        return None if context.settings.resume is None else 0
    resumption.restore(trainer, context.directory)
    context.console.message(f"resumed {resumption.path} at step {trainer.progress.step}")
    return trainer.progress.step


def _fit(trainer: Trainer, logger: RunLogger, context: RunContext[TrainSettings]) -> TrainingResult:
    reporting = context.console.training(
        epochs=trainer.settings.epochs,
        steps_per_epoch=trainer.steps_per_epoch,
        done=trainer.progress.epoch + trainer.progress.batch / len(trainer.train_loader),
        spent=trainer.progress.seconds,
    )
    with reporting as reporter, watch_signals() as watch:
        trainer.callbacks = Recorder(context.settings, context.directory, logger, reporter)
        trainer.interrupted = lambda: watch.received
        return trainer.fit()


# -- after training --------------------------------------------------------------------------------


def _evaluate_kept_model(
    trainer: Trainer, loaders: Loaders, result: TrainingResult, directory: RunDirectory
) -> dict[str, dict[str, float]]:
    """Bring the model to the weights that are kept and measure it on every part.

    These are the best epoch's where there was a validation part; of a training with an average of
    the weights, the averaged ones.
    """
    model, group = trainer.model, trainer.group
    if trainer.average is not None:
        model.load_state_dict(trainer.average.model.state_dict())
    if result.best_epoch is not None:
        if group.is_main:
            best = cast(Mapping[str, Any], directory.load_checkpoint("best"))
            model.load_state_dict(kept_weights(best["trainer"]))
        for tensor in model.state_dict().values():
            group.broadcast_(tensor)
    return {
        part: timed_evaluation(model, loader, trainer.task, group)
        | ({} if part == "train" else trainer.robust_figures(loader))
        for part, loader in loaders.parts().items()
    }


def _save(
    model: nn.Module,
    dataset: Dataset,
    result: TrainingResult,
    context: RunContext[TrainSettings],
) -> None:
    """Write the model and the figures of its training."""
    settings, directory = context.settings, context.directory
    directory.save_model(
        model,
        name=str(settings.model["name"]),
        arguments=model_arguments(model, settings.model, dataset),
        preprocessing=dataset.preprocessing,
        task=dataset.task,
    )
    rows = read_metrics(directory.path)
    figure = learning_curves(
        rows,
        result.best_epoch,
        squared_error=dataset.task.kind != "classification" or settings.trainer["loss"] == "mse",
    )
    directory.save_figure("learning_curves.png", figure)
    if any("iterations_mean" in row for row in rows):
        directory.save_figure("iterations.png", _iteration_curves(rows, model))
    if isinstance(model, ImplicitConv):
        directory.save_figure("kernels.png", kernel_pictures(model))
        directory.save_figure("feature_maps.png", _feature_maps(model, dataset))


def _feature_maps(model: ImplicitConv, dataset: Dataset) -> Figure:
    """The maps of the first test images, one of each class as long as there are such."""
    images = dataset.test.inputs[distinct(dataset.test.targets, _IMAGES)]
    preprocess = dataset.preprocessing.on(model.C.device, model.C.dtype)
    with evaluation_mode(model):
        stored = images.reshape(len(images), -1, *model.input_shape[-2:])
        return map_pictures(model, preprocess(images), stored)


def _test_row(
    figures: Mapping[str, float], trainer: Trainer, result: TrainingResult
) -> dict[str, object]:
    return {**trainer.record("test", figures), "epoch": result.best_epoch or result.epochs}


def _report(
    figures: Mapping[str, Mapping[str, float]],
    result: TrainingResult,
    model: nn.Module,
    extra: SequenceReport,
    context: RunContext[TrainSettings],
) -> dict[str, Any]:
    epoch = result.best_epoch or result.epochs
    kept = f"epoch {epoch}" if epoch else f"step {result.steps}"
    show_figures(kept, {**figures, **extra.beside}, context.console)
    context.console.message(f"run: {context.directory.path}")
    solves = {key: value for key, value in figures["test"].items() if key not in METRIC_NAMES}
    norm = getattr(model, "inf_norm_A", lambda: None)()
    training = {
        **asdict(result),
        "ranks": context.group.size,
        "parameters": parameter_count(model),
        "inf_norm_A": norm,
        "test_solves": solves,
    }
    metrics = {**metrics_of(figures), **extra.metrics}
    return {"metrics": metrics, "training": training, **extra.sections}


def _iteration_curves(rows: Sequence[Mapping[str, object]], model: nn.Module) -> Figure:
    if not isinstance(model, ImplicitModel):
        return iteration_curves(rows)
    return iteration_curves(rows, kappa=model.kappa, tol=model.forward_settings.tol)
