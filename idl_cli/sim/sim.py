"""State-driven implicit modeling from Python: a trained network in, an implicit model out."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from idl_cli.data.task import Task
from idl_cli.distributed.group import Group
from idl_cli.errors import ArgumentError, IgnoredOptionWarning
from idl_cli.evaluation import evaluate
from idl_cli.sim.fit.agreement import agreement_with, pairs, task_of
from idl_cli.sim.fit.callbacks import SimCallbacks
from idl_cli.sim.fit.convolution.fit import fit_kernels
from idl_cli.sim.fit.fit_report import report_of
from idl_cli.sim.fit.fits import Fit, Starts
from idl_cli.sim.fit.fitted_model import FittedModel
from idl_cli.sim.fit.fitting import FitSettings, fit
from idl_cli.sim.fit.options import ActivationLike, SimOptions, known_activation
from idl_cli.sim.fit.row_fit import warn_of_poor_fits
from idl_cli.sim.fit.sparse.fit import fit_supports
from idl_cli.sim.fit.sparse.plan import support_solver
from idl_cli.sim.fit.teacher_recording import record_teacher
from idl_cli.sim.options import Allocation, ProblemOptions, RefineLoss, Structure
from idl_cli.sim.regression.problem import LambdaScale
from idl_cli.sim.regression.solve import warn_ignored
from idl_cli.sim.regression.solver import BaseSolver
from idl_cli.sim.solvers import ActiveSetSolver
from idl_cli.sim.states.convolution_recording import (
    AnyRecording,
    ConvolutionRecording,
)
from idl_cli.sim.states.origin import SampleOrigin
from idl_cli.sim.states.recording import (
    Loader,
)
from idl_cli.sim.statistics.dense import SufficientStatistics


class SIM:
    """Trains an implicit model from the states of a trained network by convex optimisation.

    The network is run on m inputs; its inputs U, pre-activations Z, post-activations X and outputs
    Y give two convex problems, for [A B] and for [C D] (Tsai, Decugis, El Ghaoui, Atamtürk, arXiv
    2209.09389; ``fitting`` states them). Only their sufficient statistics are kept, so memory does
    not grow with m, and every answer comes with a certificate.

    Args:
        activation_fn: φ as a name, a module or a function such as ``torch.relu``; None takes the
            teacher's. It is a check, not a choice: the states obey the teacher's own.
        kappa: κ of ‖A‖∞ ≤ κ, in (0, 1).
        lambda_z: l1 penalty of A and B. The default, in relative units, keeps about half of
            the weights and costs a few tenths of a point of accuracy at most.
        lambda_y: l1 penalty of C and D. A tenth of λ_z by default: [C D] has few of the weights,
            and what it gives up in accuracy [A B] cannot win back.
        lambda_scale: unit of both: ``absolute`` (with the sum over samples), ``per_sample`` (times
            m) or ``relative`` (times each row's own λ_max, where its weights become zero).
        l2: weight of an elastic net's ½‖W‖², absolute.
        rescale: divide the states by the scale that makes an exact solution with ‖A‖∞ ≤ κ exist;
            possible for ReLU-like activations, predictions are unchanged.
        regenerate_states: fit C and D on the equilibria of the trained (A, B), which the model will
            see in use, rather than on the teacher's states. Costs a second pass over the data.
        tol: relative duality gap that every row must reach.
        samples: states to record; None for all that the loader gives.
        states: activation modules whose states are matched; None for all, which is exact.
        max_time: seconds after which a stage stops with what it has; None for no limit.
        nonzeros: share of the teacher's parameters that the model keeps, in (0, 1]: a limit on
            non-zeros in place of the penalties. None for the penalties.
        structure: ``full``, any state, ‖A‖∞ ≤ κ; with ``nonzeros`` ``feedforward``, each layer
            fitted in turn on the states that the sparse layers before it produce; ``convolution``,
            with ``nonzeros`` or penalties, the same for a network of convolutions, poolings,
            residual sums and fully connected layers, a row an output channel, so that the model has
            kernels (``FeedforwardConv``).
        allocation: how the weights are spent: ``pooled`` over the model by what each is worth to
            the outputs, ``per_layer`` an equal share of each layer, ``uniform`` of each row.
        skip_connections: with ``feedforward``: offer all earlier states and the inputs to each
            layer rather than those that the teacher's own layer uses.
        refine_epochs: with ``nonzeros``: passes that move the kept weights together towards the
            teacher's outputs; no labels are used. None for about 2,000 steps, 0 for none.
        refine_loss: ``kl`` of the teacher's class probabilities, ``mse`` of its outputs, or
            ``auto``: ``kl`` where the loader's batches hold class labels.
        device: where statistics and the model live; the teacher stays where it is.
        dtype: of the model; the convex problems are float64 throughout.
        group: processes that train together: every one makes the same calls and gets the same
            model. They share the passes over the data, and the solve where the solver can. None
            for this one alone.

    Raises:
        ArgumentError: values are out of range, all named at once, or ``activation_fn`` is unknown.
    """

    def __init__(
        self,
        *,
        activation_fn: ActivationLike | None = None,
        kappa: float = ProblemOptions.kappa,
        lambda_z: float = ProblemOptions.lambda_z,
        lambda_y: float = ProblemOptions.lambda_y,
        lambda_scale: LambdaScale = ProblemOptions.lambda_scale,
        l2: float = ProblemOptions.l2,
        rescale: bool = ProblemOptions.rescale,
        regenerate_states: bool = ProblemOptions.regenerate_states,
        tol: float = ProblemOptions.tol,
        samples: int | None = ProblemOptions.samples,
        states: Sequence[str] | None = None,
        max_time: float | None = ProblemOptions.max_time,
        nonzeros: float | None = ProblemOptions.nonzeros,
        structure: Structure = ProblemOptions.structure,
        allocation: Allocation = ProblemOptions.allocation,
        skip_connections: bool = ProblemOptions.skip_connections,
        refine_epochs: int | None = ProblemOptions.refine_epochs,
        refine_loss: RefineLoss = ProblemOptions.refine_loss,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        group: Group | None = None,
    ) -> None:
        self.options = SimOptions(
            kappa=kappa,
            lambda_z=lambda_z,
            lambda_y=lambda_y,
            lambda_scale=lambda_scale,
            l2=l2,
            rescale=rescale,
            regenerate_states=regenerate_states,
            tol=tol,
            samples=samples,
            states=states,
            max_time=max_time,
            nonzeros=nonzeros,
            structure=structure,
            allocation=allocation,
            skip_connections=skip_connections,
            refine_epochs=refine_epochs,
            refine_loss=refine_loss,
        )
        self._activation = None if activation_fn is None else known_activation(activation_fn)
        self.device = torch.device(device)
        self.dtype = dtype
        self.group = group
        self._teacher: nn.Module | None = None
        self._fit: Fit | None = None
        self._report: dict[str, object] | None = None

    def train(
        self,
        *,
        model: nn.Module,
        dataloader: Loader,
        solver: BaseSolver | None = None,
        callbacks: SimCallbacks | None = None,
    ) -> FittedModel:
        """Record the states of ``model`` and fit an implicit model to them.

        Args:
            model: the trained network, or an implicit model; left exactly as it is found.
            dataloader: batches of inputs, or of (inputs, targets); targets are not used. It is
                iterated twice with ``regenerate_states``.
            solver: of both problems; ``ActiveSetSolver()`` where it is None. With ``nonzeros``
                backward elimination takes the place of one that knows no limit on non-zeros.
            callbacks: told what happens.

        Returns:
            The implicit model, also found as ``self.model``.

        Raises:
            UnsupportedModelError: the network cannot be expressed; the message names the module.
            ShapeError: it does not take the loader's inputs.
            NonFiniteError: inputs, states or weights are NaN or infinite.
        """
        solver = self.suitable(ActiveSetSolver() if solver is None else solver)
        self.warn_ignored(solver)
        recording = self.record(
            model=model, dataloader=dataloader, solver=solver, callbacks=callbacks
        )
        found = self.fit(
            recording, dataloader=dataloader, solver=solver, options=None, callbacks=callbacks
        )
        self.keep(found, recording, solver)
        return found.model

    # -- the same in steps, for whoever fits several times to the same states --------------------

    def suitable(self, solver: BaseSolver) -> BaseSolver:
        """``solver``; with ``nonzeros``, one that honours the limit."""
        return solver if self.options.nonzeros is None else support_solver(solver)

    def warn_ignored(self, solver: BaseSolver) -> None:
        """Warn of what ``solver`` will ignore of the problems asked for; needs no data."""
        options = self.options
        limited = options.nonzeros is not None
        l1 = 0.0 if limited else max(options.lambda_z, options.lambda_y)
        budget = options.structure == "full"
        warn_ignored(solver, l1=l1, l2=options.l2, budget=budget, nonzeros=limited)
        for name in options.idle():
            limit = "" if options.nonzeros is None else f"nonzeros={options.nonzeros:g} and "
            warnings.warn(
                f"{name}={getattr(options, name)}: has no effect with {limit}"
                f"structure={options.structure}",
                IgnoredOptionWarning,
                stacklevel=2,
            )

    def record(
        self,
        *,
        model: nn.Module,
        dataloader: Loader,
        statistics: SufficientStatistics | None = None,
        solver: BaseSolver | None = None,
        callbacks: SimCallbacks | None = None,
        origin: SampleOrigin | None = None,
    ) -> AnyRecording:
        """Record the statistics of a network's states.

        Args:
            model: as for ``train``.
            dataloader: as for ``train``.
            statistics: of the raw states, saved before; the pass over the data is left out then.
                Where they say of which teacher and samples they are, that is checked.
            solver: of both problems; it says whether a large Gram matrix is split by columns over
                the group. None: it is not.
            callbacks: told what happens.
            origin: which samples the loader gives, kept with the statistics and compared with those
                of ``statistics``; None where that is unknown.

        Raises:
            UnsupportedModelError, ShapeError, NonFiniteError: as for ``train``.
            DataError: ``statistics`` are of another teacher or of other samples.
        """
        found = record_teacher(
            model,
            dataloader,
            self.options,
            activation=self._activation,
            statistics=statistics,
            solver=solver,
            callbacks=SimCallbacks() if callbacks is None else callbacks,
            origin=origin,
            device=self.device,
            group=self._processes,
        )
        self._teacher = model
        return found

    def fit(
        self,
        recording: AnyRecording,
        *,
        dataloader: Loader,
        solver: BaseSolver,
        options: SimOptions | None = None,
        callbacks: SimCallbacks | None = None,
        starts: Starts | None = None,
    ) -> Fit:
        """Solve both problems of recorded states.

        Args:
            recording: from ``record``.
            dataloader: the loader it was made with.
            solver: of both problems.
            options: with other penalties than the instance's; None takes the instance's.
            callbacks: told what happens.
            starts: where the solves begin, such as ``Fit.starts`` of another λ; None for nowhere.
        """
        options = self.options if options is None else options
        settings = FitSettings(
            solver=self.suitable(solver),
            options=options,
            dtype=self.dtype,
            device=self.device,
            callbacks=SimCallbacks() if callbacks is None else callbacks,
            group=self._processes,
        )
        if isinstance(recording, ConvolutionRecording):
            return fit_kernels(recording, dataloader, settings, starts=starts)
        fitted = fit if options.nonzeros is None else fit_supports
        return fitted(recording, dataloader, settings, starts=starts)

    def keep(self, found: Fit, recording: AnyRecording, solver: BaseSolver) -> None:
        """Make ``found`` the result: what ``model``, ``evaluate`` and ``report`` speak of.

        A PoorFitWarning names the rows of it that explain little of the teacher.
        """
        self._fit = found
        self._report = report_of(found, recording, solver)
        if found.options.nonzeros is None:  # a limit takes weights from the rows it can spare
            warn_of_poor_fits(found, recording.row_layout)

    # -- the result ------------------------------------------------------------------------------

    @property
    def model(self) -> FittedModel:
        """The implicit model: an ``ImplicitModel``, of kernels a ``FeedforwardConv``.

        Raises:
            ArgumentError: nothing has been trained yet.
        """
        return self._result.model

    @property
    def report(self) -> dict[str, object]:
        """What ``summary.json`` holds under ``sim``; figures on test data once ``evaluate`` ran.

        Raises:
            ArgumentError: nothing has been trained yet.
        """
        assert self._result is not None
        assert self._report is not None
        return dict(self._report)

    def evaluate(
        self, loader: Iterable[tuple[Tensor, Tensor]], *, task: Task | None = None
    ) -> dict[str, float]:
        """Measure the model beside its teacher.

        Args:
            loader: batches of (inputs, targets), tensors or NumPy arrays, preprocessed as those of
                the training were; inputs are cast to the dtype of each of the two. Class indices
                (integers) make it a classification, real targets a regression.
            task: says so explicitly.

        Returns:
            The task's metrics of the model (``accuracy`` and ``loss``, or ``r2``, ``mse``, …), the
            same of the teacher with the prefix ``teacher_``, and for classes ``agreement``: the
            share of samples with the teacher's class.

        Raises:
            ArgumentError: nothing has been trained yet, or the loader is empty or gives no pairs.
        """
        model = self._result.model
        assert self._teacher is not None
        if task is None:
            task = task_of(pairs(loader), model.output_dim)
        figures = evaluate(model, pairs(loader, model), task)
        teacher = evaluate(self._teacher, pairs(loader, self._teacher), task)
        figures |= {f"teacher_{name}": value for name, value in teacher.items() if name in figures}
        if task.kind == "classification":
            figures["agreement"] = agreement_with(self._teacher, model, pairs(loader))
        assert self._report is not None
        self._report["teacher_test_accuracy"] = figures.get("teacher_accuracy")
        self._report["agreement"] = figures.get("agreement")
        return figures

    @property
    def _processes(self) -> Group:
        return Group.single() if self.group is None else self.group

    @property
    def _result(self) -> Fit:
        if self._fit is None:
            raise ArgumentError("nothing has been trained yet; call train(model=…, dataloader=…)")
        return self._fit
