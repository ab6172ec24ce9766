"""What a run's data were: a few figures in ``data.json``, by which a change is noticed later."""

from __future__ import annotations

from pathlib import Path

from idl_cli.data.dataset import Dataset
from idl_cli.data.fingerprint import fingerprint
from idl_cli.errors import ConfigError
from idl_cli.run import RunDirectory
from idl_cli.run.files import read_json
from idl_cli.run.records import DATA


def record_data(dataset: Dataset, directory: RunDirectory, resumed: Path | None) -> None:
    """Write down what the data are; of a run that is resumed, check that they still are.

    Args:
        dataset: as the settings make it.
        directory: of the run.
        resumed: directory of the run that is continued; None for a run that starts anew.

    Raises:
        ConfigError: the run to resume was made with other data.
    """
    if resumed is not None and has_changed(dataset, resumed):
        raise ConfigError(
            [
                f"resume={resumed}: dataset={dataset.name} holds other samples or values than when"
                f" the run was made ({resumed / DATA}); restore the data, or start a new run (with"
                " model.init_run=DIR to begin from its weights)"
            ]
        )
    scaled = dataset.task.target_scaling is not None and dataset.task.forecast is None
    if resumed is not None and scaled and not (resumed / DATA).is_file():
        raise ConfigError(
            [
                f"resume={resumed}: made by a version that did not standardise real targets, as"
                f" dataset={dataset.name} now does; start a new run"
            ]
        )
    directory.write_json(DATA, fingerprint(dataset).to_dict())


def has_changed(dataset: Dataset, run: Path) -> bool:
    """Whether a data set is another one than the run was made with; False where it did not say."""
    file = run / DATA
    return file.is_file() and not fingerprint(dataset).is_what_was_recorded(read_json(file))
