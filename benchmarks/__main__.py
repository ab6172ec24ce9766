"""Run the benchmarks one after another in one process and keep their figures.

``python -m benchmarks [NAME...] [--root DIR] [--threads N]`` prints each benchmark's rows as they
come and writes ``benchmarks/results/<name>.json`` with the date and the machine they were measured
on, and ``<name>.md`` where the benchmark has a table.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from datetime import datetime, timezone
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

BENCHMARKS = (
    "startup",
    "equilibria",
    "equilibria_scaling",
    "epoch_time",
    "epoch_table",
    "image_step",
    "sim_solvers",
    "sim_accuracy",
    "sim_scaling",
    "sim_path",
    "sparsity",
    "certify",
    "rnn_epoch_time",
    "extrapolation",
    "export",
    "ddp",
)
RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    *("torch", "numpy", "cvxpy", "clarabel", "hydra-core", "torchidl", "torchdeq"),
    *("silva-networks", "jax", "optimistix"),
    *("scikit-learn", "skglm", "celer", "adelie"),
)


def _processor() -> str:
    """The processor's marketing name where the system tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _machine(threads: int) -> dict[str, object]:
    return {
        "processor": _processor(),
        "threads": threads,
        "python": platform.python_version(),
        "system": platform.system(),
        "packages": {name: _installed(name) for name in PACKAGES},
    }


def _markdown(record: dict[str, Any], table: str) -> str:
    machine = record["machine"]
    packages = ", ".join(
        f"{name} {number}" for name, number in machine["packages"].items() if number
    )
    return (
        f"# {record['benchmark']}\n\n"
        f"Measured {record['measured']}, {machine['processor']}, {machine['threads']} threads; "
        f"Python {machine['python']}, {packages}.\n\n{table}"
    )


def main() -> int:
    """Run the chosen benchmarks; the exit status is 1 when one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(BENCHMARKS)}")
    parser.add_argument("--root", type=Path, help="a folder with Fashion-MNIST's four IDX files")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default 2)")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"unknown benchmark {unknown[0]!r}; choose from {', '.join(BENCHMARKS)}")

    import torch

    torch.set_num_threads(options.threads)
    RESULTS.mkdir(exist_ok=True)
    failed = []
    for name in options.names or BENCHMARKS:
        print(f"\n== {name} ({options.threads} threads)", flush=True)
        try:
            benchmark = import_module(f"benchmarks.{name}")
            figures = benchmark.run(root=options.root)
        except Exception as error:  # one benchmark that fails must not cost the others' figures
            print(f"{name} failed: {type(error).__name__}: {error}", file=sys.stderr)
            failed.append(name)
            continue
        record = {
            "benchmark": name,
            "measured": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": _machine(options.threads),
            "figures": figures,
        }
        (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
        if hasattr(benchmark, "table"):
            table = _markdown(record, benchmark.table(figures))
            (RESULTS / f"{name}.md").write_text(table, encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
