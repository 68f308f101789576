"""The tests marked gpu, file by file within a stated time, for a card that is there for minutes.

    export PYTHONPATH=.:kernels PYTHONUNBUFFERED=1 NUMBA_CACHE_DIR=/tmp/numba TRITON_CACHE_DIR=/tmp/triton
    mkdir -p "$OUT"; timeout 320 python3 benchmarks/gpu/gpu_tests.py --out "$OUT" 2>&1 | tee "$OUT/tests.log"

Kernels first, then the toolkit; `--seconds` (300) for all. Writes OUT/tests.json after each file and the report of each
as JUnit's XML. Exit code as `prove.py`: 1 where a test fails, 2 where a file had no time. pytest-xdist, where there is
one, compiles four files' kernels at a time; `--dry` runs one file, whose tests skip without a card.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
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
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--dry", action="store_true")
    asked = parser.parse_args()
    sys.path.append(str(Path(__file__).parents[1]))
    import torch
    from proving import Proof

    card = torch.cuda.is_available() and not asked.dry
    if not card and not asked.dry:
        print("expected a CUDA device, found none; --dry tries the command")
        return 1
    proof = Proof(asked.out / "tests.json", "cuda" if card else "cpu", asked.dry, asked.seconds)
    for path in files():
        if asked.dry and path.name not in DRY:
            continue
        left = asked.seconds - (time.monotonic() - proof.began)
        proof.phase(path.stem, 15, lambda p, f=path, s=left: run(p, f, asked.out, s, asked.workers))
    print(f"exit code {proof.code}")
    return proof.code


def run(proof, path: Path, out: Path, seconds: float, workers: int) -> None:
    """One file, in a process of its own."""
    report = out / f"{path.stem}.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu and not slow", "-p", "no:cacheprovider", str(path)]
    if workers > 1 and importlib.util.find_spec("xdist") and not proof.dry:
        command += ["-n", str(workers)]
    try:
        subprocess.run([*command, "--junitxml", report], cwd=ROOT, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"{path.name} was stopped after {seconds:.0f} s") from error
    suite = next(ElementTree.parse(report).iter("testsuite"))
    counts = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
    names = [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None]
    ran = counts["tests"] - counts["skipped"]
    ok = not counts["failures"] and not counts["errors"] and (ran > 0 or proof.dry)
    proof.row(path.stem, **counts, ok=ok, failed=names[:5])


if __name__ == "__main__":
    raise SystemExit(main())
