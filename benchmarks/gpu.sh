#!/bin/sh
# The table of equilibria on the first GPU, in under five minutes: benchmarks/gpu.sh [PYTHON]
# With CIFAR10_ROOT=DIR (the official binary archive) the presets sized for a GPU are trained to their end after it.
set -eu
cd "$(dirname "$0")/.."
python="${1:-.venv/bin/python}"
"$python" - <<'EOF'
import warnings

import torch

from benchmarks import equilibria

warnings.simplefilter("ignore")
for states, samples in ((100, 64), (500, 256), (1000, 1024), (4000, 512)):
    for spectrum in ("easy", "hard .99", "hard .999", "blocks of 8"):
        case = equilibria.make_case(spectrum, states, samples, "cuda")
        print(equilibria.line(spectrum, states, samples, equilibria.measure(case, 0.5)), flush=True)
EOF
if [ -n "${CIFAR10_ROOT:-}" ]; then
    for preset in implicit_conv_cifar10 implicit_conv_cifar10_large implicit_conv_cifar10_scales; do
        "$python" -m idl_cli train experiment="$preset" dataset.root="$CIFAR10_ROOT" device=cuda \
            resume=auto hydra.run.dir="outputs/gpu/$preset"
    done
fi
