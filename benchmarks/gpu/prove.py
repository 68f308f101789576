"""Everything that this project says of a GPU, measured on one: answers first, then speed over the card's own rates.

On a machine with a card, torch 2.11 or later with its triton, and nothing of this project installed, from its root:

    export PYTHONPATH=.:kernels PYTHONUNBUFFERED=1 NUMBA_CACHE_DIR=/tmp/numba TRITON_CACHE_DIR=/tmp/triton
    mkdir -p "$OUT"; timeout 570 python3 benchmarks/gpu/prove.py --out "$OUT" 2>&1 | tee "$OUT/prove.log"

It ends within `--seconds` (520; the most valuable phases first, each within its own budget) and writes OUT/prove.json
after each phase, whole or not at all, so that a run that is cut off keeps what is done. Exit code: 0 all well, 1 a
wrong answer or a phase that failed, 2 a phase without time left, 3 nothing worse than a missed target of speed.

    --only heat,toolkit    phases whose name begins so
    --dry                  tiny sizes on a CPU, kernels in Triton's interpreter: tries the command, proves nothing
    without a card         the same table with what is predicted from counted floors, and marked so

The two commands beside it: `tune.py` measures launch settings, `gpu_tests.py` runs the tests marked gpu.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import warnings
from pathlib import Path

# name, seconds, module, function; in the order of their worth
PHASES = (
    ("ceilings", 15, "ceilings", "run"),
    ("kernels against float64", 100, "correctness", "run"),
    ("heat map over graphed passes", 90, "heat_maps", "run"),
    ("whole network", 40, "solvers", "whole_network"),
    ("reductions", 40, "solvers", "reductions"),
    ("streaming kernels", 50, "streaming", "run"),
    ("toolkit on the device", 60, "toolkit", "run"),
    ("solvers by side", 60, "solvers", "by_side"),
    ("exact values of the whole network", 60, "solvers", "whole_network_exact"),
)
PREDICTING = ("ceilings", "heat_maps", "streaming", "solvers")


def main() -> int:
    """Run the phases, or print what is predicted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for prove.json")
    parser.add_argument("--seconds", type=float, default=520)
    parser.add_argument("--only", default="", help="phases, by how their names begin, with commas between")
    parser.add_argument("--dry", action="store_true")
    asked = parser.parse_args()
    if asked.dry:
        interpret()
    sys.path.append(str(Path(__file__).parents[1]))  # networks.py

    import torch
    from proving import Proof, lines

    warnings.simplefilter("ignore")
    card = torch.cuda.is_available() and not asked.dry
    proof = Proof(asked.out / "prove.json", "cuda" if card else "cpu", asked.dry, asked.seconds)
    if not card and not asked.dry:
        return predict(proof)
    wanted = tuple(word.strip() for word in asked.only.split(",") if word.strip())
    for name, seconds, module, function in PHASES:
        if not wanted or name.startswith(wanted) or module == "ceilings":
            proof.phase(name, seconds, lambda p, m=module, f=function: getattr(importlib.import_module(m), f)(p))
    print("\n".join(["", *lines(proof.rows), f"exit code {proof.code}"]))
    return proof.code


def predict(proof) -> int:
    """The table without a card."""
    from ceilings import NOMINAL
    from proving import PREDICTED, lines

    proof.rates.update(NOMINAL)
    for module in PREDICTING:
        for name, figures in importlib.import_module(module).predicted(NOMINAL).items():
            proof.rows[name] = {k: float(f"{v:.4g}") for k, v in figures.items()} | {"state": PREDICTED}
    proof.phases["all"] = {"state": PREDICTED}
    proof.save()
    print("\n".join([f"no card here: {PREDICTED}", *lines(proof.rows)]))
    return 0


def interpret() -> None:
    """Kernels in Triton's interpreter, where it works: before triton is imported."""
    import importlib.metadata
    import importlib.util

    import numpy as np

    if importlib.util.find_spec("triton") is None:
        return
    release = tuple(int(part) for part in importlib.metadata.version("triton").split(".")[:2])
    if release >= (3, 7) or np.lib.NumpyVersion(np.__version__) < "2.4.0":  # 3.6 hands NumPy what 2.4 refuses
        os.environ["TRITON_INTERPRET"] = "1"


if __name__ == "__main__":
    raise SystemExit(main())
