"""``idl predict``: the model of a run, applied to a file of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from idl_cli.assembly.compute import prepare
from idl_cli.commands.predict.settings import PredictSettings
from idl_cli.export.predictor import Predictor
from idl_cli.export.reading.source import Reading, open_source
from idl_cli.export.writing.layout import Layout
from idl_cli.export.writing.writers import STANDARD_OUTPUT, open_writer, refuse_output
from idl_cli.reporting import Reporter
from idl_cli.run import RunDirectory, collect_environment, load_run, read_record

_NAMED_AT_MOST: Final = 5


def run(settings: PredictSettings, directory: RunDirectory, console: Reporter) -> dict[str, object]:
    """Predict every sample of the input, in its order; memory is that of a batch.

    A sample that cannot be used keeps its row in the output, without a prediction and with the
    reason; those rows are counted, and the first of them named in a warning.

    Args:
        settings: checked.
        directory: of this prediction, locked.
        console: told what happens; silent where predictions go to standard output.

    Returns:
        ``metrics`` (``rows``, ``bad_rows``) and the section ``predict`` of ``summary.json``.

    Raises:
        RunError: the run holds no usable model.
        ConfigError: the input does not fit the model, or the output cannot be written.
        DataError: the input cannot be read.
    """
    path = Path(settings.run).expanduser()
    refuse_output(settings.output, settings.input)
    loaded = load_run(path)
    compute = prepare(
        device=settings.device,
        dtype=str(loaded.dtype).removeprefix("torch."),
        seed=settings.seed,
        threads=settings.threads,
    )
    directory.write_json("environment.json", collect_environment(compute.device, directory.command))
    predictor = Predictor(loaded, compute.device)
    reading = Reading(
        predictor.task, _dataset_of(path), settings.key, settings.columns, settings.batch_size
    )
    classifier = predictor.task.kind == "classification"
    if settings.probabilities and not classifier:
        console.warning("probabilities=true: a regression has none; its predictions are written")
    layout = Layout(
        predictor.task,
        predictor.class_names if classifier else (),
        settings.probabilities and classifier,
    )
    rows, bad, named = 0, 0, list[str]()
    with ExitStack() as stack:
        blocks = open_source(settings.input, reading, stack)
        writer = stack.enter_context(open_writer(settings.output, layout))
        for block in blocks:
            predictions = predictor(block, settings.input)
            writer.write(predictions)
            rows += len(predictions.names)
            bad += len(predictions.problems)
            for row, reason in sorted(predictions.problems.items()):
                if len(named) < _NAMED_AT_MOST:
                    name = predictions.names[row]
                    named.append(reason if reason.startswith(name) else f"{name}: {reason}")
    if predictor.doubt is not None:
        console.warning(f"input={settings.input}: {predictor.doubt}")
    if bad:
        others = "; …" if bad > len(named) else ""
        console.warning(
            f"{bad:,} of {rows:,} rows have no prediction ({'; '.join(named)}{others}); the column"
            " problem of the output says why"
        )
    if settings.output != STANDARD_OUTPUT:
        console.message(f"{rows - bad:,} predictions: {settings.output}")
        console.message(f"run: {directory.path}")
    return {
        "metrics": {"rows": rows, "bad_rows": bad},
        "predict": {
            "run": str(path.resolve()),
            "input": settings.input,
            "output": settings.output,
            "columns": ["row", *layout.value_names, *layout.probability_names, "problem"],
        },
    }


def _dataset_of(path: Path) -> Mapping[str, Any]:
    """Keys of the data set of a run; empty where it has none, as of a Python caller."""
    if not (path / ".hydra" / "config.yaml").exists():
        return {}
    chosen = read_record(path).config.get("dataset")
    return chosen if isinstance(chosen, Mapping) else {}
