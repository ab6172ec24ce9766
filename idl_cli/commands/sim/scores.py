"""How the models of a state-driven training are scored, on its own dataset and batches."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from idl_cli.assembly.compute import Compute
from idl_cli.assembly.measure import METRIC_NAMES
from idl_cli.commands.sim.certified_score import CertifiedScore
from idl_cli.commands.sim.measured_path import Measures
from idl_cli.commands.sim.settings import SimSettings
from idl_cli.data.dataset import Dataset
from idl_cli.data.loader import BatchLoader
from idl_cli.data.split import Split
from idl_cli.distributed.group import current
from idl_cli.evaluation import evaluate


class SimScores:
    """Scores of models on the parts of one dataset, batch by batch in order.

    Args:
        settings: of the run.
        dataset: as the teacher takes it.
        compute: device and dtype.
    """

    def __init__(self, settings: SimSettings, dataset: Dataset, compute: Compute) -> None:
        self._settings = settings
        self._dataset = dataset
        self._compute = compute
        classes = dataset.task.kind == "classification"
        self.score = "accuracy" if classes else "r2"
        trainer = settings.trainer
        self._certified = None
        if trainer["select_lambda"] == "certified":
            self._certified = CertifiedScore(
                dataset.preprocessing, trainer["select_epsilon"], trainer["select_samples"]
            )

    def batches(self, part: Split) -> BatchLoader:
        """The batches of one part, unshuffled."""
        return _batches(self._settings, self._dataset, part, self._compute, shuffle=False)

    def figures(self, model: nn.Module, part: Split) -> Mapping[str, float]:
        """All figures of a model on one part."""
        return evaluate(model, self.batches(part), self._dataset.task)

    def validation(self, model: nn.Module) -> float:
        """What a choice goes by on the validation part, larger is better."""
        assert self._dataset.validation is not None
        if self._certified is not None:
            return self._certified.accuracy(model, self._dataset.validation)
        return self.figures(model, self._dataset.validation)[self.score]

    def shared_validation(self, model: nn.Module) -> float:
        """As ``validation``, of the first rank: all ranks choose by the same figure."""
        return current(self._compute.device).broadcast_object(self.validation(model))

    def of_path(self, *, shared: bool) -> Measures:
        """What is measured of every model of a path.

        Args:
            shared: whether all ranks ask, or the first one alone.
        """
        validation = self.shared_validation if shared else self.validation
        test = self.batches(self._dataset.test)

        def figures(model: nn.Module) -> dict[str, float]:
            found = named_metrics(evaluate(model, test, self._dataset.task))
            if self._certified is not None:
                found |= self._certified.figures(model, self._dataset.test)
            return found

        return Measures(
            test=figures,
            validation=None if self._dataset.validation is None else validation,
            score=self.score,
        )


def named_metrics(figures: Mapping[str, float]) -> dict[str, float]:
    """Those figures that ``metrics`` in summary.json holds."""
    return {name: value for name, value in figures.items() if name in METRIC_NAMES}


def recording_loader(settings: SimSettings, dataset: Dataset, compute: Compute) -> BatchLoader:
    """The batches whose states are recorded: the training part as it is, without augmentation.

    Where only some samples are wanted they are drawn at random; every pass gives the same ones.
    """
    drawn = settings.trainer["samples"] is not None
    return _batches(settings, dataset, dataset.train, compute, shuffle=drawn)


def _batches(
    settings: SimSettings, dataset: Dataset, part: Split, compute: Compute, *, shuffle: bool
) -> BatchLoader:
    return BatchLoader(
        part,
        int(settings.trainer["batch_size"]),
        preprocessing=dataset.preprocessing,
        shuffle=shuffle,
        seed=settings.seed,
        device=compute.device,
        dtype=compute.dtype,
    )
