"""From checked settings to the objects of a training: model, loaders, trainer."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from idl_cli import registry
from idl_cli.assembly.compute import Compute, RunContext
from idl_cli.assembly.idle_options import refuse_idle_options
from idl_cli.assembly.measure import evaluation_loader
from idl_cli.assembly.requested import DataRequest, GradientRequest
from idl_cli.data.dataset import Dataset
from idl_cli.data.fingerprint import fingerprint
from idl_cli.data.input_scale import preprocessing_for
from idl_cli.data.loader import BatchLoader
from idl_cli.data.mixing import make_mixing
from idl_cli.data.split import Split
from idl_cli.data.task import Task
from idl_cli.distributed.group import Group
from idl_cli.errors import ConfigError, DataError
from idl_cli.models.base import TrainableModel
from idl_cli.models.differenced import Differenced
from idl_cli.run import fitted_to, load_run
from idl_cli.training.losses import make_loss
from idl_cli.training.parameter_groups import decay_groups
from idl_cli.training.robust.training import make_robustness
from idl_cli.training.schedulers import Scheduler
from idl_cli.training.settings import TrainerSettings
from idl_cli.training.trainer import Trainer

_CHUNK: Final = 4096  # samples preprocessed at a time


def build_dataset(settings: DataRequest, group: Group) -> Dataset:
    """Build the data set; of several ranks, one a machine downloads what is not there yet.

    Raises:
        DataError: the ranks found different samples, or what the data set raises.
    """
    if group.local_rank > 0:
        group.barrier()
    dataset: Dataset = registry.build("dataset", settings.dataset, seed=settings.seed)
    if group.local_rank == 0:
        group.barrier()
    if group.size > 1:
        _refuse_other_data(dataset, group)
    return dataset


def _refuse_other_data(dataset: Dataset, group: Group) -> None:
    """Compare what the ranks hold: each works on its part of what has to be the same whole."""
    own = fingerprint(dataset)
    for rank, other in enumerate(group.gather_objects(own)):
        if own.is_of_same_data(other):
            continue
        if other.samples != own.samples:
            raise DataError(
                f"dataset={dataset.name}: rank {rank} finds {other.samples} training, validation "
                f"and test samples, rank {group.rank} {own.samples}; give every machine the same "
                "files"
            )
        raise DataError(
            f"dataset={dataset.name}: rank {rank} finds other values than rank {group.rank}, in "
            "as many samples; give every machine the same files"
        )


def build_model(
    settings: GradientRequest, dataset: Dataset, compute: Compute, group: Group
) -> tuple[nn.Module, Dataset]:
    """Make a new model, fitted to the training inputs, or take the one of ``model.init_run``.

    A run's model keeps its architecture, its κ and the preprocessing it was trained with, which
    replaces the data set's; how its equilibria are solved, and what training leaves out, follow the
    settings.

    Raises:
        ConfigError: the run's model has other inputs or outputs than the data set.
        RunError: the run holds no usable model.
    """
    task = dataset.task
    init_run = settings.model.get("init_run")
    if init_run is None:
        made: nn.Module = registry.build(
            "model",
            settings.model,
            **model_sizes(settings.model, task),
        )
        made = fitted_to(made, task)
        if isinstance(made, TrainableModel):
            made.fit_inputs(_training_inputs(dataset))
            for buffer in made.buffers():  # ranks may round differently
                group.broadcast_(buffer)
        return made.to(device=compute.device, dtype=compute.dtype), dataset
    loaded = load_run(Path(init_run).expanduser())
    if loaded.name != settings.model["name"]:
        raise ConfigError(
            [
                f"model.init_run={init_run}: holds a model={loaded.name}; choose it, instead of"
                f" model={settings.model['name']}"
            ]
        )
    arguments = loaded.arguments
    needed = model_sizes(settings.model, task)
    sizes = {key: arguments.get(key) for key in needed}
    if sizes != needed:
        raise ConfigError(
            [
                f"model.init_run={init_run}: its model maps {_inputs(sizes)} to"
                f" {sizes['output_dim']} outputs; dataset={dataset.name} has {_inputs(needed)} and"
                f" {needed['output_dim']}"
            ]
        )
    training = ("forward", "backward", "dropout")
    given = {key: settings.model[key] for key in training if key in settings.model}
    trained_on = task if loaded.task is None else loaded.task
    model = fitted_to(
        registry.build("model", {"name": loaded.name, **arguments, **given}), trained_on
    )
    model.to(loaded.dtype).load_state_dict(loaded.model.state_dict())
    preprocessing = loaded.preprocessing
    if preprocessing is not None:
        preprocessing = preprocessing_for(dataset, preprocessing)
    dataset = dataset.for_model_of(trained_on, preprocessing)
    return model.to(device=compute.device, dtype=compute.dtype), dataset


def _training_inputs(dataset: Dataset) -> Iterator[Tensor]:
    for chunk in torch.split(dataset.train.inputs, _CHUNK):
        yield dataset.preprocessing(chunk)


def model_sizes(settings: Mapping[str, object], task: Task) -> dict[str, object]:
    """Return what a model is told of its task: sizes of an input, as it asks for it, and output.

    Args:
        settings: section ``model``.
        task: what is predicted from what.

    Returns:
        ``input_shape`` for a model that takes it; otherwise ``input_dim``, features of a step if
        it reads sequences, else of a sample; and ``output_dim``.
    """
    target = registry.load(registry.find("model", str(settings["name"])))
    if "input_shape" in inspect.signature(target).parameters:
        return {"input_shape": list(task.input_shape), "output_dim": task.output_dim}
    sequences = bool(getattr(target, "takes_sequences", False))
    entries = task.step_features if sequences else task.input_dim
    return {"input_dim": entries, "output_dim": task.output_dim}


def _inputs(sizes: Mapping[str, object]) -> str:
    if "input_shape" in sizes:
        return f"inputs of shape {sizes['input_shape']}"
    return f"{sizes['input_dim']} inputs"


def model_arguments(
    model: nn.Module, settings: Mapping[str, object], dataset: Dataset
) -> dict[str, object]:
    """Return the arguments that make the model again: its own word, or what it was made with."""
    if isinstance(model, Differenced):
        return model_arguments(model.model, settings, dataset)
    own = getattr(model, "constructor_arguments", None)
    if own is not None:
        return dict(own())
    given = {key: value for key, value in settings.items() if key not in ("name", "init_run")}
    return {**given, **model_sizes(settings, dataset.task)}


class Loaders:
    """The loaders of a run: one to train with, one a part to measure on.

    Of a group of ranks, each draws its own part of every batch.

    Raises:
        ConfigError: the samples cannot be mixed as the trainer's settings ask.
    """

    def __init__(self, dataset: Dataset, context: RunContext[GradientRequest]) -> None:
        settings, compute, group = context.settings, context.compute, context.group
        self._dataset = dataset
        self._batch_size = int(settings.trainer["batch_size"])
        self._compute = compute
        self._group = group
        self.training = BatchLoader(
            dataset.train,
            self._batch_size,
            preprocessing=dataset.preprocessing,
            shuffle=True,
            seed=settings.seed,
            augmentation=dataset.augmentation,
            mixing=make_mixing(
                dataset.task,
                mixup=settings.trainer["mixup"],
                cutmix=settings.trainer["cutmix"],
            ),
            device=compute.device,
            dtype=compute.dtype,
            rank=group.rank,
            ranks=group.size,
        )

    @property
    def validation(self) -> BatchLoader | None:
        """The validation part in order, None where there is none."""
        part = self._dataset.validation
        return None if part is None else self._in_order(part)

    def parts(self) -> dict[str, BatchLoader]:
        """Every part in its stored order, without augmentation."""
        parts = {"train": self._in_order(self._dataset.train)}
        if self.validation is not None:
            parts["validation"] = self.validation
        return {**parts, "test": self._in_order(self._dataset.test)}

    def _in_order(self, part: Split) -> BatchLoader:
        return evaluation_loader(part, self._dataset, self._batch_size, self._compute, self._group)


def build_trainer(
    context: RunContext[GradientRequest], dataset: Dataset, model: nn.Module, loaders: Loaders
) -> Trainer:
    """Make the loss, the optimiser, its schedule and the trainer that the settings describe.

    Raises:
        ConfigError: an option of the trainer does not go with the data or the dtype.
    """
    settings = context.settings
    refuse_idle_options(settings, dataset, context.compute.device)
    trainer_settings: TrainerSettings = registry.build("trainer", settings.trainer)
    if trainer_settings.precision == "bf16" and settings.dtype != "float32":
        raise ConfigError(
            [
                f"trainer.precision=bf16: mixes bfloat16 with float32, not {settings.dtype};"
                " use trainer.precision=fp32 or dtype=float32"
            ]
        )
    loss = make_loss(
        dataset.task,
        loss=trainer_settings.loss,
        label_smoothing=trainer_settings.label_smoothing,
        class_weights=trainer_settings.class_weights,
        train_targets=dataset.train.targets,
        device=context.compute.device,
    )
    robustness = make_robustness(
        trainer_settings.robust,
        trainer_settings.perturbation,
        model=model,
        task=dataset.task,
        preprocessing=dataset.preprocessing,
        device=context.compute.device,
    )
    parameters: object = [p for p in model.parameters() if p.requires_grad]
    if settings.optimizer.get("weight_decay"):
        parameters = decay_groups(model)
    optimizer: Optimizer = registry.build("optimizer", settings.optimizer, parameters=parameters)
    steps_per_epoch = math.ceil(len(loaders.training) / trainer_settings.accumulate)
    scheduler: Scheduler = registry.build(
        "scheduler",
        settings.scheduler,
        optimizer=optimizer,
        total_steps=trainer_settings.epochs * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
    )
    return Trainer(
        model,
        task=dataset.task,
        train_loader=loaders.training,
        validation_loader=loaders.validation,
        optimizer=optimizer,
        scheduler=scheduler,
        loss=loss,
        settings=trainer_settings,
        group=context.group,
        robustness=robustness,
    )
