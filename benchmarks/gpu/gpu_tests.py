"""The tests marked gpu within a stated time, for a card that is there for minutes.

    export PYTHONPATH=.:kernels PYTHONUNBUFFERED=1 NUMBA_CACHE_DIR=/tmp/numba TRITON_CACHE_DIR=/tmp/triton
    mkdir -p "$OUT"; timeout 320 python3 benchmarks/gpu/gpu_tests.py --out "$OUT" 2>&1 | tee "$OUT/tests.log"

Kernels first, then the toolkit; `--seconds` (300) for all. Writes OUT/tests.json, a row for each file, and JUnit's
OUT/tests.xml. Exit code as `prove.py`: 1 where a test fails, 2 where time was too short. pytest-xdist, where there is
one, compiles the kernels of twelve tests at a time; `--dry` runs one file, whose tests skip without a card.
"""

from __future__ import annotations

import argparse
import importlib.util
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIRST = ("test_fourier_perturb.py", "test_hermitian_eigenvalues.py", "test_conv_gram.py", "test_channel_svd.py")
DRY = ("test_gram_iteration.py",)


def files() -> list[Path]:
    """Files with such a test: kernels before the rest, and of them the most used first."""
    marked = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "pytest.mark.gpu" in path.read_text()]
    place = {name: i for i, name in enumerate(FIRST)}
    return sorted(marked, key=lambda p: (p.parent.name != "kernels", place.get(p.name, len(place)), p.name))


def main() -> int:
    """Run them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--workers", type=int, default=12)
    parser.add_argument("--dry", action="store_true")
    asked = parser.parse_args()
    sys.path.append(str(Path(__file__).parents[1]))
    import torch
    from proving import Proof

    card = torch.cuda.is_available() and not asked.dry
    if not card and not asked.dry:
        print("expected a CUDA device, found none; --dry tries the command")
        return 1
    proof = Proof(asked.out / "tests.json", "cuda" if card else "cpu", asked.dry, asked.seconds + 10)
    chosen = [path for path in files() if not asked.dry or path.name in DRY]
    proof.phase("tests", asked.seconds + 10, lambda p: run(p, chosen, asked.out, asked.seconds, asked.workers))
    print(f"exit code {proof.code}")
    return proof.code


def run(proof, paths: list[Path], out: Path, seconds: float, workers: int) -> None:
    """All of them, in processes of their own; what was found when the time is over is kept."""
    report = out / "tests.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu and not slow", "-p", "no:cacheprovider"]
    command += ["--benchmark-disable", "--junitxml", str(report), *map(str, paths)]
    if workers > 1 and importlib.util.find_spec("xdist") and not proof.dry:
        command += ["-n", str(workers)]
    # an interrupt, unlike a kill, lets pytest write what it has
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=10)
        raise TimeoutError(f"stopped after {seconds:.0f} s") from error
    finally:
        if report.exists():
            _count(proof, report)


def _count(proof, report: Path) -> None:
    """One row for each file."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    names: dict[str, list[str]] = defaultdict(list)
    for case in ElementTree.parse(report).iter("testcase"):
        file = str(case.get("classname")).split(".")[-1]
        kinds = [kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None]
        found[file].update(["tests", *kinds])
        names[file] += [str(case.get("name"))] * bool({"failure", "error"} & set(kinds))
    for file, counts in found.items():
        ran = counts["tests"] - counts["skipped"]
        ok = not counts["failure"] and not counts["error"] and (ran > 0 or proof.dry)
        proof.row(file, **counts, ok=ok, failed=names[file][:5])


if __name__ == "__main__":
    raise SystemExit(main())
