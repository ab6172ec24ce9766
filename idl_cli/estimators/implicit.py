"""Implicit models as scikit-learn's estimators, trained as ``idl train`` trains them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, check_random_state
from torch import Tensor

from idl_cli.data.loader import BatchLoader
from idl_cli.data.preprocessing import Preprocessing
from idl_cli.data.scaling import TargetScaling
from idl_cli.data.split import Split
from idl_cli.data.task import Task
from idl_cli.equilibrium.settings import FixedPointSettings
from idl_cli.estimators.validation import Matrix, checked
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.options import ImplicitOptions
from idl_cli.training.losses import make_loss
from idl_cli.training.optimizers import adam
from idl_cli.training.schedulers import one_cycle
from idl_cli.training.settings import TrainerSettings
from idl_cli.training.trainer import Trainer

_SOLVED_TO = 1e-10
"""Predictions must not depend on which samples are predicted together, as scikit-learn asks."""


class _Implicit(BaseEstimator):  # type: ignore[misc]
    """An implicit model x = φ(Ax + Bu + b), ŷ = Cx + Du + c on standardised features.

    Adam under one cycle of the learning rate, in float64; arguments are those of the two classes.
    """

    def __init__(
        self,
        *,
        hidden_dim: int = 50,
        kappa: float = ImplicitOptions.kappa,
        activation: str = ImplicitOptions.activation,
        well_posedness: Literal["linf", "triangular", "none"] = ImplicitOptions.well_posedness,
        epochs: int = 50,
        batch_size: int = 64,
        learning_rate: float = 1e-2,
        random_state: Any = None,
    ) -> None:
        self.hidden_dim = hidden_dim
        self.kappa = kappa
        self.activation = activation
        self.well_posedness = well_posedness
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state

    def _train(self, X: Matrix, targets: Tensor, task: Task) -> None:
        """Fit the normalisation and train the model."""
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        inputs = torch.from_numpy(X)
        self.preprocessing_ = Preprocessing.fit(inputs, "feature")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = ImplicitModel(
                X.shape[1],
                task.output_dim,
                self.hidden_dim,
                kappa=self.kappa,
                activation=self.activation,
                well_posedness=self.well_posedness,
            ).double()
            loader = BatchLoader(
                Split(inputs, targets),
                min(self.batch_size, len(X)),
                preprocessing=self.preprocessing_,
                shuffle=True,
                seed=seed,
                dtype=torch.float64,
            )
            settings = TrainerSettings(epochs=self.epochs)
            optimizer = adam(list(model.parameters()), lr=self.learning_rate)
            scheduler = one_cycle(
                optimizer, total_steps=self.epochs * len(loader), steps_per_epoch=len(loader)
            )
            Trainer(
                model,
                task=task,
                train_loader=loader,
                validation_loader=None,
                optimizer=optimizer,
                scheduler=scheduler,
                loss=make_loss(task, device="cpu"),
                settings=settings,
                lr_key="learning_rate",
            ).fit()
        model.forward_settings = FixedPointSettings(tol=_SOLVED_TO)
        self.model_ = model.eval()
        self.n_iter_ = self.epochs

    @torch.no_grad()
    def _outputs(self, X: Any) -> Tensor:
        check_is_fitted(self)
        inputs = torch.from_numpy(np.ascontiguousarray(checked(self, X, reset=False)))
        outputs: Tensor = self.model_(self.preprocessing_(inputs, dtype=torch.float64))
        return outputs


class ImplicitClassifier(ClassifierMixin, _Implicit):  # type: ignore[misc]
    """Classifier by an implicit model (El Ghaoui et al., arXiv 1908.06315).

    Args:
        hidden_dim: states n.
        kappa: κ of ‖A‖∞ ≤ κ, in (0, 1): the equilibrium exists and is unique.
        activation: name of φ.
        well_posedness: ``linf``, ``triangular`` (feed-forward) or ``none``.
        epochs: passes over the samples.
        batch_size: samples of an optimiser step.
        learning_rate: largest of the cycle.
        random_state: seed, generator or None, as scikit-learn's own.

    Attributes:
        classes_: labels (q,), in the order of ``predict_proba``.
        model_: the trained ``ImplicitModel``, which reads what ``preprocessing_`` returns.
        n_iter_: epochs done.
    """

    def fit(self, X: Any, y: Any) -> ImplicitClassifier:
        """Train on samples X (m, p) of classes y (m,).

        Raises:
            ValueError: the samples or the classes are none that scikit-learn takes.
            ArgumentError: an argument of the model is out of range.
        """
        values = checked(self, X, reset=True)
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        labels = _column(y)
        check_classification_targets(labels)
        self.classes_, indices = np.unique(labels, return_inverse=True)
        if len(indices) != len(values):
            raise ValueError(f"{len(indices)} classes for {len(values)} samples")
        if len(self.classes_) < 2:
            raise ValueError(
                f"one class alone ({self.classes_[0]!r}): a classifier needs 2 classes"
            )
        task = Task("classification", values.shape[1:], len(self.classes_))
        self._train(values, torch.from_numpy(indices.astype(np.int64)), task)
        return self

    def predict_proba(self, X: Any) -> Matrix:
        """Probabilities of the classes (m, q)."""
        found: Matrix = self._outputs(X).softmax(dim=1).numpy()
        return found

    def predict(self, X: Any) -> Any:
        """The most probable class of every sample (m,)."""
        classes = self._outputs(X).argmax(dim=1).numpy()
        return self.classes_[classes]


class ImplicitRegressor(MultiOutputMixin, RegressorMixin, _Implicit):  # type: ignore[misc]
    """Regression by an implicit model; arguments as of ``ImplicitClassifier``.

    Targets are standardised for the training, and predicted in their own unit.
    """

    def fit(self, X: Any, y: Any) -> ImplicitRegressor:
        """Train on samples X (m, p) with targets y (m,) or (m, q).

        Raises:
            ValueError: the samples or targets are none that scikit-learn takes.
            ArgumentError: an argument of the model is out of range.
        """
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        values, targets = checked(self, X, y, reset=True)
        self._single = targets.ndim == 1
        columns = torch.from_numpy(targets.astype(np.float64).reshape(len(targets), -1))
        self.scaling_ = TargetScaling.fit(columns)
        task = Task("regression", values.shape[1:], columns.shape[1], target_scaling=self.scaling_)
        self._train(values, self.scaling_.scale(columns), task)
        return self

    def predict(self, X: Any) -> Matrix:
        """Targets (m,) or (m, q), as they were fitted."""
        scaled = self._outputs(X)
        outputs: Matrix = self.scaling_.unscale(scaled).numpy()
        return outputs[:, 0] if self._single else outputs


def _column(y: Any) -> Any:
    from sklearn.utils.validation import column_or_1d

    return column_or_1d(y, warn=True)
