"""The model card: ``README.md`` with the front matter that model hubs read.

The format is that of the Hugging Face Hub (https://huggingface.co/docs/hub/model-cards): YAML
between two lines of dashes, then Markdown.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import yaml

from idl_cli import __version__
from idl_cli.errors import UnsupportedModelError
from idl_cli.export.deployment import Deployment, Written
from idl_cli.export.equations import Implicit, Recurrent


def model_card(
    deployment: Deployment,
    written: Written,
    *,
    files: Mapping[str, int],
    checked: Mapping[str, object],
    licence: str,
) -> str:
    """The text of the card.

    Args:
        deployment: what was written.
        written: by a format.
        files: bytes of every file by name.
        checked: figures of the comparison with the run, by what they are.
        licence: an identifier of the hub.
    """
    task, name = deployment.task, _title(deployment)
    front = {
        "license": licence,
        "library_name": "idl-cli",
        "pipeline_tag": _pipeline(deployment),
        "tags": [
            "implicit-deep-learning",
            deployment.run.name,
            deployment.dataset.name,
        ],
        "model-index": [{"name": name, "results": _results(deployment)}],
    }
    if not front["model-index"][0]["results"]:  # type: ignore[index]
        del front["model-index"]
    sections = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n",
        f"# {name}\n\n{_what(deployment)}",
        "## Figures\n\n" + _table(_figures(deployment)),
        "## Input and output\n\n" + _interface(deployment),
        f"## How to load\n\n```python\n{written.load.strip()}\n```\n\nNeeds: "
        + ", ".join(f"`{need}`" for need in written.needs)
        + ".",
        "## Exactness\n\n" + _exactness(written, checked),
        "## Files\n\n" + _table({file: f"{size:,} bytes" for file, size in sorted(files.items())}),
        f"Made by idl {__version__} ({task.kind}, seed {deployment.summary.get('seed', '?')}).",
    ]
    return "\n\n".join(sections) + "\n"


def _title(deployment: Deployment) -> str:
    return f"{deployment.run.name} on {deployment.dataset.name}"


def _pipeline(deployment: Deployment) -> str:
    task = deployment.task
    if task.forecast is not None:
        return "time-series-forecasting"
    if task.kind == "classification":
        return "image-classification" if len(task.input_shape) == 3 else "tabular-classification"
    return "tabular-regression"


def _what(deployment: Deployment) -> str:
    try:
        equations, _ = deployment.equations
    except UnsupportedModelError:
        equations = None
    size = deployment.weights_in_words
    if isinstance(equations, Implicit):
        solved = "solved exactly in one sweep" if equations.blocks else "an equilibrium"
        kind = (
            f"An implicit model x = φ(Ax + Bu + b), ŷ = Cx + Du + c with {equations.states} states"
            f" and φ = {equations.activation} ({solved}; arXiv 1908.06315)"
        )
    elif isinstance(equations, Recurrent):
        kind = f"An implicit recurrent network of {len(equations.cells)} cells (arXiv 2407.14430)"
    else:
        kind = f"A network of type {type(deployment.run.model).__name__}"
    how = deployment.summary.get("command", "a Python program")
    return f"{kind}: {size}. Trained by `idl {how}` on the data set {deployment.dataset.name}."


def _figures(deployment: Deployment) -> dict[str, str]:
    metrics = deployment.summary.get("metrics")
    if not isinstance(metrics, Mapping) or not metrics:
        return {"of the run": "not recorded"}
    return {str(name): _number(value) for name, value in metrics.items()}


def _results(deployment: Deployment) -> list[dict[str, object]]:
    metrics = deployment.summary.get("metrics")
    values = metrics if isinstance(metrics, Mapping) else {}
    kinds = {"test_accuracy": "accuracy", "test_r2": "r_squared", "test_mse": "mse"}
    found = [
        {"type": kind, "value": values[name], "name": name}
        for name, kind in kinds.items()
        if isinstance(values.get(name), float)
    ]
    if not found:
        return []
    dataset = {"name": deployment.dataset.name, "type": deployment.dataset.name, "split": "test"}
    return [{"task": {"type": _pipeline(deployment)}, "dataset": dataset, "metrics": found}]


def _interface(deployment: Deployment) -> str:
    task, shape = deployment.task, " × ".join(map(str, deployment.task.input_shape))
    lines = [
        f"- Samples: N × {shape} ({prod(task.input_shape):,} numbers each), as they are stored"
        f" ({deployment.raw_dtype}); they are divided by {deployment.preprocessing.divisor:g} and"
        f" normalised ({deployment.preprocessing.normalize}) inside."
    ]
    if deployment.class_names:
        lines.append(
            f"- Classes, in the order of the outputs: {', '.join(deployment.class_names)}."
        )
    elif task.forecast is not None:
        lines.append(
            f"- Outputs: the next {task.forecast.horizon} values of {task.forecast.target}, in its"
            " own unit."
        )
    else:
        lines.append(f"- Outputs: {task.output_dim} targets in their own unit.")
    return "\n".join(lines)


def _exactness(written: Written, checked: Mapping[str, object]) -> str:
    rows = {name: _number(value) for name, value in checked.items()}
    if written.bound is not None:
        bound = written.bound
        held = f"for {bound.inputs}"
        rows |= {
            f"proven error of {bound.steps} steps, {held}": f"{bound.truncation:.3g}",
            f"worst-case rounding, {held}": f"{bound.rounding:.3g}",
        }
    return _table(rows) + "".join(f"\n\n{note}" for note in written.notes)


def _table(rows: Mapping[str, str]) -> str:
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(["| what | value |", "|---|---|", *lines])


def _number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
