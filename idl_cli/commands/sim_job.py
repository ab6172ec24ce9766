"""One state-driven training: its work step by step, and what it tells on the way."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from idl_cli.analysis.sim_plots import gap_curves, sparsity_pattern
from idl_cli.commands.compute import Compute
from idl_cli.commands.iterates import SECONDS, KeptIterates
from idl_cli.commands.sim_path import (
    MeasuredPath,
    Measures,
    follow,
    penalties_of,
    pruning_rows,
    write_path,
)
from idl_cli.commands.sim_tables import candidate_row, result_rows, show_rows
from idl_cli.commands.teacher import Teacher
from idl_cli.config.schemas.root import SimSettings
from idl_cli.data.dataset import Dataset, Split
from idl_cli.data.loader import BatchLoader
from idl_cli.distributed.group import current
from idl_cli.errors import IgnoredOptionWarning
from idl_cli.evaluation import evaluate
from idl_cli.loggers import RunLogger
from idl_cli.reporting import ProgressReporter, Reporter
from idl_cli.run import RunDirectory, read_metrics
from idl_cli.sim.diagnosis import RowDiagnosis, diagnose
from idl_cli.sim.fitting import Fit, Pass, SimCallbacks, Stage, StageFit, with_penalties
from idl_cli.sim.judge import HistoryEntry
from idl_cli.sim.path import fit_path
from idl_cli.sim.recording import Recording, Statistics
from idl_cli.sim.selection import Candidate, select_penalty
from idl_cli.sim.sim import SIM
from idl_cli.sim.solvers.base import BaseSolver
from idl_cli.sim.statistics import SufficientStatistics

STATISTICS = "statistics.safetensors"
METRIC_NAMES = ("loss", "accuracy", "top5_accuracy", "r2", "mse", "mae", "mape")


class SimJob(SimCallbacks):
    """One training: what it works on, and where it says how it is getting on."""

    def __init__(
        self,
        settings: SimSettings,
        sim: SIM,
        solver: BaseSolver,
        teacher: Teacher,
        compute: Compute,
        logger: RunLogger,
        console: Reporter,
        iterates: KeptIterates,
    ) -> None:
        self._settings = settings
        self._trainer: Mapping[str, Any] = settings.trainer
        self._sim = sim
        self._solver = solver
        self._teacher = teacher
        self._compute = compute
        self._group = current(compute.device)
        self._console = console
        self._progress: ProgressReporter | None = None
        self._counted = 0
        self._silent = False
        self._path: MeasuredPath | None = None
        self._logger = logger
        self._iterates = iterates
        # Of several penalties none is the one to continue with.
        one_penalty = settings.trainer["path"] is None and settings.trainer["select_lambda"] is None
        self.iterate_seconds = SECONDS if one_penalty else None
        self._states = recording_loader(settings, teacher.dataset, compute)

    # -- what is told on the way -----------------------------------------------------------------

    def on_samples(self, name: Pass, count: int) -> None:
        """Move the bar of a pass."""
        if self._progress is not None:
            self._progress.advance(count - self._counted if count > self._counted else count)
            self._progress.note(f"{name}: {count:,} samples")
        self._counted = count

    def on_progress(self, stage: Stage, entry: HistoryEntry) -> None:
        """Keep one line of the convergence, and show the gap."""
        if self._progress is not None:
            self._progress.note(f"[{stage[0].upper()} {stage[1].upper()}] {entry.relative_gap:.1e}")
        if not self._silent:
            self._logger.log(
                {"step": entry.iterations, "epoch": None, "split": stage, **_row(entry)}
            )

    def on_iterate(self, stage: Stage, state: Mapping[str, Tensor]) -> None:
        """Keep where a long solve stands."""
        self._iterates.write(stage, state)

    def kept_iterate(self, stage: Stage) -> Mapping[str, Tensor] | None:
        """Where the solve of the run to continue stood."""
        return None if self.iterate_seconds is None else self._iterates.read(stage)

    @contextmanager
    def _bar(self, label: str) -> Iterator[None]:
        with self._console.progress(label) as progress:
            self._progress, self._counted = progress, 0
            try:
                yield
            finally:
                self._progress = None

    # -- the work --------------------------------------------------------------------------------

    def record(self, directory: RunDirectory) -> Recording:
        """The statistics of the teacher's states; from a file where the user names one."""
        path = self._trainer["load_statistics"]
        statistics = None
        if path is not None:
            statistics = SufficientStatistics.load(path, device=self._compute.device)
        with self._bar("recording states"):
            recording = self._sim.record(
                model=self._teacher.model,
                dataloader=self._states,
                statistics=statistics,
                solver=self._solver,
                callbacks=self,
            )
        if self._trainer["save_statistics"]:
            self._save(recording.raw, directory)
        layout = recording.recorder.layout
        blocks = zip(layout.names, layout.sizes, strict=True)
        self._console.facts(
            "problem",
            {
                "teacher": f"{self._settings.teacher['name']}, {self._teacher.origin}",
                "states": ", ".join(f"{name} {size}" for name, size in blocks),
                "sizes": f"n = {layout.state_dim} states, p = {layout.input_dim} inputs"
                + (" and a constant" if layout.has_bias else "")
                + f", q = {layout.output_dim} outputs",
                "samples": recording.raw.count,
                "rescaled": f"by 1 to {float(recording.scale.max()):.4g}"
                if bool((recording.scale != 1).any())
                else "no",
                "solver": f"{self._settings.solver['name']}, tol {self._sim.options.tol:g}",
            },
        )
        return recording

    def _save(self, statistics: Statistics, directory: RunDirectory) -> None:
        if isinstance(statistics, SufficientStatistics):
            statistics.save(directory.path / STATISTICS)
        else:
            warnings.warn(
                "trainer.save_statistics=true: they are split over the ranks by columns and are "
                "not saved; solver.column_blocks=never keeps them whole",
                IgnoredOptionWarning,
                stacklevel=2,
            )

    def fit(self, recording: Recording) -> tuple[Fit, tuple[Candidate, ...]]:
        """Solve both stages, at the λ asked for or at the one the validation part chooses."""
        if self._trainer["path"] is not None:
            return self._follow_path(recording), ()
        if self._trainer["select_lambda"] is None:
            with self._bar("solving"):
                return self._fit_at(None, recording), ()
        self._silent = True
        with self._bar("choosing lambda"):
            best, candidates = select_penalty(
                self._trainer["lambda_grid"],
                lambda penalty: self._fit_at(penalty, recording),
                self._validation_score,
                max_nonzero_fraction=self._trainer["max_nonzero_fraction"],
            )
        self._log_history(best.fit)
        columns = ["lambda_z", "validation score", "non-zeros", "chosen"]
        rows = [candidate_row(each, best) for each in candidates]
        self._console.table("choice of lambda on the validation part", columns, rows)
        return best.fit, candidates

    def _log_history(self, found: Fit) -> None:
        """Write down how the solves of the fit that is kept converged; the others' are not."""
        self._silent = False
        stages: tuple[tuple[Stage, StageFit], ...] = (("ab", found.ab), ("cd", found.cd))
        for stage, part in stages:
            for entry in part.solution.history:
                self.on_progress(stage, entry)

    def _follow_path(self, recording: Recording) -> Fit:
        """Fit and measure along the path; the files of the path are written by ``finish``."""
        trainer, options = self._trainer, self._sim.options
        penalties = penalties_of(trainer["path"], recording, options.lambda_scale)
        self._silent = True
        with self._console.progress("path of lambda", total=len(penalties)) as progress:

            def on_row(row: Mapping[str, Any]) -> None:
                progress.advance()
                progress.note(f"lambda_z {row['lambda_z']:.2g}: {row['nonzeros']:,} non-zeros")

            fits = fit_path(
                self._sim,
                recording,
                penalties,
                dataloader=self._states,
                solver=self._solver,
                options=options,
                callbacks=self,
            )
            self._path = follow(
                fits,
                self._measures(self._shared_score),
                select=trainer["select_lambda"] is not None,
                max_nonzero_fraction=trainer["max_nonzero_fraction"],
                on_row=on_row,
            )
        found = self._path.best[0]
        self._log_history(found)
        return found

    def _measures(self, validation: Callable[[nn.Module], float]) -> Measures:
        dataset = self._teacher.dataset
        test = self._in_order(dataset.test)
        classes = dataset.task.kind == "classification"

        def figures(model: nn.Module) -> dict[str, float]:
            found = evaluate(model, test, dataset.task)
            return {name: value for name, value in found.items() if name in METRIC_NAMES}

        return Measures(
            test=figures,
            validation=None if dataset.validation is None else validation,
            score="accuracy" if classes else "r2",
        )

    def _finish_path(self, path: MeasuredPath, directory: RunDirectory) -> dict[str, object]:
        """Prune the teacher for comparison, write and show the path."""
        measures, pruned = self._measures(self._score_on_validation), []
        if self._trainer["prune_baseline"]:
            total = len(self._trainer["prune_zeros"])
            with self._console.progress("pruning the teacher", total=total) as progress:
                pruned = pruning_rows(
                    self._teacher,
                    path.rows,
                    self._trainer,
                    self._settings.teacher,
                    measures,
                    self._compute,
                    self._settings.seed,
                    progress.advance,
                )
        write_path(path, pruned, self._teacher, measures, directory, self._console)
        return {"points": len(path.rows), "seconds": path.seconds}

    def _fit_at(self, penalty: float | None, recording: Recording) -> Fit:
        options = self._sim.options
        if penalty is not None:
            options = with_penalties(options, penalty)
        return self._sim.fit(
            recording,
            dataloader=self._states,
            solver=self._solver,
            options=options,
            callbacks=self,
        )

    def _validation_score(self, found: Fit) -> float:
        return self._shared_score(found.model)

    def _score_on_validation(self, model: nn.Module) -> float:
        dataset = self._teacher.dataset
        assert dataset.validation is not None
        figures = evaluate(model, self._in_order(dataset.validation), dataset.task)
        return figures["accuracy" if dataset.task.kind == "classification" else "r2"]

    def _shared_score(self, model: nn.Module) -> float:
        """All ranks choose by the same figure."""
        return self._group.broadcast_object(self._score_on_validation(model))

    def finish(
        self,
        found: Fit,
        recording: Recording,
        candidates: tuple[Candidate, ...],
        directory: RunDirectory,
    ) -> dict[str, Any]:
        """Measure the model, save it, draw it, and say how it went."""
        dataset, console = self._teacher.dataset, self._console
        test = self._sim.evaluate(self._in_order(dataset.test), task=dataset.task)
        parts = {"train": evaluate(found.model, self._in_order(dataset.train), dataset.task)}
        if dataset.validation is not None:
            validation = self._in_order(dataset.validation)
            parts["validation"] = evaluate(found.model, validation, dataset.task)
        parts["test"] = {name: v for name, v in test.items() if not name.startswith("teacher_")}
        for part, figures in parts.items():
            self._logger.log({"step": 0, "epoch": None, "split": part, **figures})
        directory.save_model(found.model, preprocessing=dataset.preprocessing, task=dataset.task)
        rows = read_metrics(directory.path)
        directory.save_figure("gap.png", gap_curves(rows, self._sim.options.tol))
        directory.save_figure("sparsity.png", sparsity_pattern(found.model))
        report = self._sim.report
        report["solver"] = self._settings.solver["name"]
        report["teacher"] = {
            "name": self._settings.teacher["name"],
            "origin": self._teacher.origin,
            "seconds": self._teacher.seconds,
        }
        if self._path is not None:
            report["path"] = self._finish_path(self._path, directory)
        if candidates:
            report["candidates"] = [
                {
                    "lambda_z": each.lambda_z,
                    "validation_score": each.score,
                    "nonzero_fraction": each.nonzero_fraction,
                }
                for each in candidates
            ]
        console.table("result", ["", "teacher", "implicit model"], result_rows(report, test))
        if self._trainer["diagnose_rows"]:
            self._diagnose(found, recording, directory)
        console.message(f"run: {directory.path}")
        metrics = {
            f"{part}_{name}": value
            for part, figures in parts.items()
            for name, value in figures.items()
            if name in METRIC_NAMES
        }
        return {"metrics": metrics, "sim": report}

    def _diagnose(self, found: Fit, recording: Recording, directory: RunDirectory) -> None:
        layout = recording.recorder.layout
        stages: dict[str, tuple[RowDiagnosis, ...]] = {
            "ab": diagnose(
                found.ab.solution.certificate, found.ab.solution.weights, layout, stage="ab"
            ),
            "cd": diagnose(
                found.cd.solution.certificate, found.cd.solution.weights, layout, stage="cd"
            ),
        }
        directory.write_json(
            "rows.json", {name: [asdict(row) for row in rows] for name, rows in stages.items()}
        )
        show_rows(stages, self._console)

    def _in_order(self, part: Split) -> BatchLoader:
        return BatchLoader(
            part,
            int(self._trainer["batch_size"]),
            preprocessing=self._teacher.dataset.preprocessing,
            shuffle=False,
            seed=self._settings.seed,
            device=self._compute.device,
            dtype=self._compute.dtype,
        )


def recording_loader(settings: SimSettings, dataset: Dataset, compute: Compute) -> BatchLoader:
    """The batches whose states are recorded: the training part as it is, without augmentation.

    Where only some samples are wanted they are drawn at random; every pass gives the same ones.
    """
    return BatchLoader(
        dataset.train,
        int(settings.trainer["batch_size"]),
        preprocessing=dataset.preprocessing,
        shuffle=settings.trainer["samples"] is not None,
        seed=settings.seed,
        device=compute.device,
        dtype=compute.dtype,
    )


def _row(entry: HistoryEntry) -> dict[str, object]:
    return {
        "objective": entry.objective,
        "relative_gap": entry.relative_gap,
        "rows_solved": entry.rows_solved,
        "seconds": entry.seconds,
    }
