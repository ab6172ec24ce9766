"""``python -m tests.stress [PART...]``: long, seeded trials that ``make test`` has no time for."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from tests.stress import certificates, fuzz, kills, mutations

PARTS = {"fuzz": fuzz, "mutations": mutations, "kills": kills, "certificates": certificates}
_SHARES = {"fuzz": 0.45, "mutations": 0.15, "kills": 0.25, "certificates": 0.15}


def main() -> int:
    """Run the parts chosen; the exit status is 1 where one of them counted a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join(PARTS)}")
    parser.add_argument("--seconds", type=float, default=600.0, help="for all parts (default 600)")
    parser.add_argument("--count", type=int, help="trials of each part, in place of a time")
    parser.add_argument("--seed", type=int, default=0, help="of every part (default 0)")
    parser.add_argument("--first", type=int, default=0, help="number of the first trial")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--output", type=Path, default=Path("outputs/stress.json"))
    options = parser.parse_args()
    chosen = options.parts or list(PARTS)
    unknown = [name for name in chosen if name not in PARTS]
    if unknown:
        parser.error(f"unknown part {unknown[0]!r}; choose from {', '.join(PARTS)}")
    whole = sum(_SHARES[name] for name in chosen)
    report: dict[str, object] = {"seed": options.seed}
    faults = 0
    for name in chosen:
        begun = time.monotonic()
        figures = PARTS[name].run(
            seed=options.seed,
            count=options.count,
            seconds=options.seconds * _SHARES[name] / whole,
            processes=options.processes,
            first=options.first,
        )
        figures["seconds"] = round(time.monotonic() - begun, 1)
        report[name] = figures
        faults += figures["faults"]
        _show(name, figures)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"\nfaults {faults}; all figures in {options.output}")
    return 1 if faults else 0


def _show(name: str, figures: dict[str, object]) -> None:
    print(f"\n{name}")
    for key, value in figures.items():
        if isinstance(value, int | float):
            print(f"  {key:28} {value:>10,}")
        elif isinstance(value, dict):
            for line, counts in value.items():
                print(f"    {line:16} " + ", ".join(f"{n:,} {what}" for what, n in counts.items()))
        elif isinstance(value, list):
            for each in value[:12]:
                print(f"    {each}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
