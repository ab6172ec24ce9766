#!/bin/sh
# The table of equilibria on the first GPU, in under five minutes: benchmarks/gpu.sh [PYTHON]
set -eu
cd "$(dirname "$0")/.."
exec "${1:-.venv/bin/python}" - <<'EOF'
import warnings

import torch

from benchmarks import equilibria

warnings.simplefilter("ignore")
for states, samples in ((100, 64), (500, 256), (1000, 1024), (4000, 512)):
    for spectrum in ("easy", "hard .99", "hard .999", "blocks of 8"):
        case = equilibria.make_case(spectrum, states, samples, "cuda")
        print(equilibria.line(spectrum, states, samples, equilibria.measure(case, 0.5)), flush=True)
EOF
