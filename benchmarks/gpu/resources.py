"""Registers, spills and shared memory of every launch, compiled for GPUs that are not there, under this triton.

    python benchmarks/gpu/resources.py --to benchmarks/results/kernel-resources.json

Adds this version of triton to the file, or replaces it; run it in an environment of each version that is supported.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import triton

from fastfreq.results.atomic import write_text

ROOT = Path(__file__).parents[2]
TARGETS = ("cuda 80", "cuda 90", "hip gfx942")
NAMES = {"cuda 80": "sm_80", "cuda 90": "sm_90", "hip gfx942": "gfx942"}


def main() -> int:
    """Compile, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--only", help="one operation")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "rows.json"
        command = [sys.executable, ROOT / "tests/kernels/_compile_all.py", *asked.targets, "--to", found]
        command += ["--only", asked.only] if asked.only else ["--every"]
        plain = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
        subprocess.run(command, cwd=ROOT, env=plain, check=True)
        rows = json.loads(found.read_text())
    table: dict[str, dict[str, dict[str, list[int]]]] = {}
    for row in rows:
        key = f"{row['function']} {row['kernel']}, warps {row['warps']}"
        place = table.setdefault(key, {})
        place.setdefault(NAMES[row["target"]], [row["registers"], row["spilled"], row["shared"]])
    old = json.loads(asked.to.read_text()) if asked.to.exists() else {}
    versions = {**old.get("triton", {}), triton.__version__: table}
    lines = [f'  "columns": {json.dumps(["registers", "bytes spilled", "bytes of shared memory"])},\n  "triton": {{']
    for i, (version, kernels) in enumerate(sorted(versions.items())):
        inner = [f"      {json.dumps(name)}: {json.dumps(by)}" for name, by in kernels.items()]
        lines.append(f"    {json.dumps(version)}: {{\n" + ",\n".join(inner) + "\n    }" + "," * (i < len(versions) - 1))
    write_text(asked.to, "\n".join(["{", *lines, "  }", "}"]) + "\n")
    print(asked.to.read_text())
    return int(any(by[1] for kernels in versions.values() for each in kernels.values() for by in each.values()))


if __name__ == "__main__":
    raise SystemExit(main())
