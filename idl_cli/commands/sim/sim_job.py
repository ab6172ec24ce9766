"""One state-driven training, step by step: record, fit, finish."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

from torch import nn

from idl_cli.assembly.compute import RunContext
from idl_cli.assembly.fine_tuning import FineTuning, fine_tune
from idl_cli.assembly.teacher import Teacher
from idl_cli.commands.sim.checkpoints import StageCheckpoints
from idl_cli.commands.sim.finishing import (
    complete_report,
    cost,
    labels_section,
    measure,
    save,
    show_result,
    write_diagnosis,
)
from idl_cli.commands.sim.measured_path import MeasuredPath, follow, penalties_of, write_path
from idl_cli.commands.sim.pruning_baseline import pruning_rows
from idl_cli.commands.sim.result_tables import candidate_row
from idl_cli.commands.sim.scores import SimScores, recording_loader
from idl_cli.commands.sim.settings import SimSettings
from idl_cli.commands.sim.sim_progress import SimProgress
from idl_cli.errors import IgnoredOptionWarning
from idl_cli.loggers import RunLogger
from idl_cli.run import RunDirectory
from idl_cli.sim.fit.fit_report import solver_name
from idl_cli.sim.fit.fits import Fit
from idl_cli.sim.fit.fitting import with_penalties
from idl_cli.sim.fit.path import fit_path
from idl_cli.sim.fit.selection import Candidate, select_penalty
from idl_cli.sim.regression.solver import BaseSolver
from idl_cli.sim.sim import SIM
from idl_cli.sim.states.convolution_recording import AnyRecording, ConvolutionRecording
from idl_cli.sim.states.layout import InputBatches
from idl_cli.sim.states.origin import SampleOrigin
from idl_cli.sim.states.recording import Recording, Statistics
from idl_cli.sim.statistics.dense import SufficientStatistics

STATISTICS: Final = "statistics.safetensors"


class SimJob:
    """One training: what it works on, and where it says how it is getting on."""

    def __init__(
        self,
        context: RunContext[SimSettings],
        sim: SIM,
        solver: BaseSolver,
        teacher: Teacher,
        logger: RunLogger,
        checkpoints: StageCheckpoints,
    ) -> None:
        settings, compute, console = context.settings, context.compute, context.console
        self._directory = context.directory
        self._settings = settings
        self._trainer: Mapping[str, Any] = settings.trainer
        self._sim = sim
        self._solver = solver
        self._solver_name: str = solver_name(solver) or settings.solver["name"]
        self._teacher = teacher
        self._compute = compute
        self._logger = logger
        self._console = console
        one_penalty = self._trainer["path"] is None and self._trainer["select_lambda"] is None
        self._progress = SimProgress(
            logger,
            console,
            checkpoints,
            checkpoint_seconds=self._trainer["checkpoint_seconds"],
            one_penalty=one_penalty,
        )
        self._scores = SimScores(settings, teacher.dataset, compute)
        self._states = recording_loader(settings, teacher.dataset, compute)
        self._path: MeasuredPath | None = None
        self._is_main = context.group.is_main
        self._tuning = FineTuning.of(
            self._trainer["finetune_epochs"], settings.teacher, settings.seed
        )

    def record(self) -> AnyRecording:
        """The statistics of the teacher's states; from a file where the user names one."""
        path = self._trainer["load_statistics"]
        statistics = None
        if path is not None:
            statistics = SufficientStatistics.load(
                Path(path).expanduser(), device=self._compute.device
            )
        origin = None
        if path is not None or self._trainer["save_statistics"]:
            origin = SampleOrigin.of(
                self._teacher.dataset,
                samples=self._trainer["samples"],
                seed=self._settings.seed,
            )
        with self._progress.bar("recording states"):
            recording = self._sim.record(
                model=self._teacher.model,
                dataloader=self._states,
                statistics=statistics,
                solver=self._solver,
                callbacks=self._progress,
                origin=origin,
            )
        if self._trainer["save_statistics"]:
            assert isinstance(recording, Recording)  # the options say so
            _save(recording.raw, self._directory)
        self._show_problem(recording)
        return recording

    def _show_problem(self, recording: AnyRecording) -> None:
        layout = recording.recorder.layout
        blocks = zip(layout.names, layout.sizes, strict=True)
        rows = {}
        if isinstance(recording, ConvolutionRecording):
            channels = ", ".join(map(str, recording.row_layout.sizes[::-1]))
            rows = {"rows": f"one a channel: {channels}, {layout.output_dim}"}
        self._console.facts(
            "problem",
            {
                "teacher": f"{self._settings.teacher['name']}, {self._teacher.origin}",
                "states": ", ".join(f"{name} {size}" for name, size in blocks),
                "sizes": f"n = {layout.state_dim} states, p = {layout.input_dim} inputs"
                + (" and a constant" if layout.has_bias else "")
                + f", q = {layout.output_dim} outputs",
                **rows,
                "samples": recording.count,
                "rescaled": f"by 1 to {float(recording.scale.max()):.4g}"
                if isinstance(recording, Recording) and recording.is_rescaled
                else "no",
                "solver": f"{self._solver_name}, tol {self._sim.options.tol:g}",
            },
        )

    def fit(self, recording: AnyRecording) -> tuple[Fit, tuple[Candidate, ...]]:
        """Solve both stages, at the λ asked for or at the one the validation part chooses."""
        if self._trainer["path"] is not None:
            return self._follow_path(recording), ()
        if self._trainer["select_lambda"] is None:
            with self._progress.bar("solving"):
                return self._fit_at(None, recording), ()
        with self._progress.bar("choosing lambda"):
            best, candidates = select_penalty(
                self._trainer["lambda_grid"],
                lambda penalty: self._fit_at(penalty, recording),
                lambda found: self._scores.shared_validation(found.model),
                max_nonzero_fraction=self._trainer["max_nonzero_fraction"],
            )
        self._progress.log_history(best.fit)
        columns = ["lambda_z", "validation score", "non-zeros", "chosen"]
        rows = [candidate_row(each, best) for each in candidates]
        self._console.table("choice of lambda on the validation part", columns, rows)
        return best.fit, candidates

    def _fit_at(self, penalty: float | None, recording: AnyRecording) -> Fit:
        options = self._sim.options
        if penalty is not None:
            options = with_penalties(options, penalty)
        return self._sim.fit(
            recording,
            dataloader=self._states,
            solver=self._solver,
            options=options,
            callbacks=self._progress,
        )

    def _follow_path(self, recording: AnyRecording) -> Fit:
        """Fit and measure along the path; the files of the path are written by ``finish``."""
        trainer, options = self._trainer, self._sim.options
        penalties = penalties_of(trainer["path"], recording, options.lambda_scale, options.nonzeros)
        limited = options.nonzeros is not None
        title = "path of non-zeros" if limited else "path of lambda"
        with self._console.progress(title, total=len(penalties)) as progress:

            def on_row(row: Mapping[str, Any]) -> None:
                progress.advance()
                asked = "" if limited else f"lambda_z {row['lambda_z']:.2g}: "
                progress.note(f"{asked}{row['nonzeros']:,} non-zeros")

            fits = fit_path(
                self._sim,
                recording,
                penalties,
                dataloader=self._states,
                solver=self._solver,
                options=options,
                callbacks=self._progress,
            )
            self._path = follow(
                fits,
                self._scores.of_path(shared=True),
                select=trainer["select_lambda"] is not None,
                max_nonzero_fraction=trainer["max_nonzero_fraction"],
                on_row=on_row,
                tune=self._tuned_copy if self._tuning.epochs and self._is_main else None,
            )
        found = self._path.best[0]
        self._progress.log_history(found)
        return found

    def finish(
        self, found: Fit, recording: AnyRecording, candidates: tuple[Candidate, ...]
    ) -> dict[str, Any]:
        """Measure the model, save it, draw it, and say how it went."""
        teacher, console, directory = self._teacher, self._console, self._directory
        test, metrics = measure(self._sim, found, teacher, self._scores, self._logger)
        tuned = None
        if self._tuning.epochs:
            tuned = {"epochs": self._tuning.epochs, "before": metrics}
            started = time.perf_counter()
            fine_tune(found.model, teacher.dataset, self._tuning, self._compute)
            tuned["seconds"] = time.perf_counter() - started
            test, metrics = measure(
                self._sim, found, teacher, self._scores, self._logger, epoch=self._tuning.epochs
            )
        save(self._sim, found, teacher, directory)
        path = None if self._path is None else self._finish_path(self._path, directory)
        report = complete_report(
            self._sim.report, self._settings, self._solver_name, teacher, candidates, path
        )
        report |= labels_section(self._trainer, tuned, found)
        report |= cost(found.model, teacher, directory, self._scores)
        show_result(report, test, console)
        if self._trainer["diagnose_rows"]:
            write_diagnosis(found, recording, directory, console)
        console.message(f"run: {directory.path}")
        return {"metrics": metrics, "sim": report}

    def _tuned_copy(self, model: nn.Module) -> nn.Module:
        copied = deepcopy(model)
        fine_tune(copied, self._teacher.dataset, self._tuning, self._compute)
        return copied

    def _finish_path(self, path: MeasuredPath, directory: RunDirectory) -> dict[str, object]:
        """Prune the teacher for comparison, write and show the path."""
        measures, pruned = self._scores.of_path(shared=False), []
        if self._trainer["prune_baseline"]:
            each = 1 + (len(self._trainer["prune_zeros"]) if self._trainer["prune_epochs"] else 0)
            total = len(self._trainer["baselines"]) * each
            with self._console.progress("pruning the teacher", total=total) as progress:
                pruned = pruning_rows(
                    self._teacher,
                    path.rows,
                    self._settings,
                    measures.row,
                    self._compute,
                    InputBatches(self._states, self._trainer["samples"]),
                    progress.advance,
                )
        write_path(path, pruned, self._teacher, measures, directory, self._console)
        return {"points": len(path.rows), "seconds": path.seconds}


def _save(statistics: Statistics, directory: RunDirectory) -> None:
    if statistics.whole is not None:
        statistics.whole.save(directory.path / STATISTICS)
    else:
        warnings.warn(
            "trainer.save_statistics=true: they are split over the ranks by columns and are "
            "not saved; solver.column_blocks=never keeps them whole",
            IgnoredOptionWarning,
            stacklevel=2,
        )
