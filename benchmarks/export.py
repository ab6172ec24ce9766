"""What exported models cost: file, time at 1 and 64 samples, beside torch and an MLP.

Fashion-MNIST: an implicit model of 100 states, a model of ``idl sim`` with 90 % of the teacher's
parameters zero and the same with all of them, and a network of about the same accuracy; each as an
ONNX file, and the implicit one with its steps as a loop. Times are medians of calls on one thread.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

_MODELS = {
    "implicit": ["train", "model.hidden_dim=100", "trainer.epochs=4"],
    "sparse": ["sim", "solver=backward_elimination", "trainer.nonzeros=0.1"],
    "dense": ["sim", "solver=backward_elimination", "trainer.nonzeros=1.0"],
    "mlp": ["train", "model=mlp", "model.hidden_dims=[64]", "trainer.epochs=4"],
}
_EXPORTS = {
    "implicit": ([], ["format.loop=true"]),
    "sparse": ([],),
    "dense": ([],),
    "mlp": ([],),
}


def run(root: Path | None = None) -> dict[str, object]:
    """Train, export and print a row for each form.

    Args:
        root: folder of Fashion-MNIST's four IDX files; None fetches them.

    Returns:
        The section ``export`` of every export's summary, by model and form.
    """
    data = ["dataset=fashion_mnist"]
    if root is not None:
        data.append(f"dataset.root={root}")
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model, words in _MODELS.items():
            structure = ["trainer.structure=feedforward"] if words[0] == "sim" else []
            _idl(*words, *data, *structure, f"hydra.run.dir={folder / model}")
            for number, extra in enumerate(_EXPORTS[model]):
                made = folder / f"{model}_{number}"
                _idl("export", f"run={folder / model}", *extra, f"hydra.run.dir={made}")
                summary = json.loads((made / "summary.json").read_text())
                row = {**summary["metrics"], **summary["export"]}
                found[" ".join([model, *extra])] = row
                times = row["milliseconds"]
                print(
                    f"{' '.join([model, *extra]):28} {row['bytes']:9,} bytes, differs by"
                    f" {row['difference']:.1e}, {row['other_classes']} other classes;"
                    f" 1: {times['exported']['1']:.3f} ms (torch {times['PyTorch']['1']:.3f}),"
                    f" 64: {times['exported']['64']:.2f} ms (torch {times['PyTorch']['64']:.2f})",
                    flush=True,
                )
    return found


def _idl(*words: str) -> None:
    command = [sys.executable, "-m", "idl_cli", *words, "threads=1", "report=false"]
    subprocess.run(command, check=True, capture_output=True)
