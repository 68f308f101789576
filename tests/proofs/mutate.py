"""Change the code in small ways and see whether a test notices: `python tests/proofs/mutate.py --minutes 15 --seed 0`.

Works on a copy of the checkout, one change at a time. `--named` tries changes that once went unnoticed.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MEMORY = 16 << 30  # bytes of address space that the tests of one change may take
LIMIT = 120  # seconds for the tests of one change: a loop without end is noticed too

CONTRACT = [f"tests/contract/test_{name}.py" for name in ("merging", "checkpoints", "inputs", "surroundings")]
CONTRACT += ["-k", "noise_curve or heatmap"]
ENGINE = ["tests/test_engine.py"]
# module -> the tests that look at it, those that take least first
COVER: dict[str, list[list[str]]] = {
    "fastfreq/vocabulary/sums.py": [["tests/test_sums.py"], CONTRACT],
    "fastfreq/vocabulary/streams.py": [["tests/test_streams.py"], CONTRACT],
    "fastfreq/vocabulary/metrics.py": [ENGINE, ["tests/test_heatmap.py", "-k", "metric"], CONTRACT],
    "fastfreq/vocabulary/fingerprints.py": [["tests/test_fingerprints.py"]],
    "fastfreq/vocabulary/fourier.py": [["tests/test_fourier.py"], ["tests/test_heatmap.py", "-k", "definition"]],
    "fastfreq/vocabulary/masks.py": [["tests/test_masks.py"]],
    "fastfreq/vocabulary/statistics.py": [["tests/test_statistics.py"]],
    "fastfreq/vocabulary/bounded_means.py": [["tests/test_bounded_means.py"]],
    "fastfreq/vocabulary/numbers.py": [["tests/test_numbers.py"]],
    "fastfreq/vocabulary/conventions.py": [["tests/test_fourier.py"], ["tests/test_heatmap.py", "-k", "definition"]],
    "fastfreq/vocabulary/checks.py": [["tests/test_sources.py", "tests/test_fourier.py"], CONTRACT],
    "fastfreq/results/_archive.py": [["tests/test_store.py", "tests/test_damaged_files.py"]],
    "fastfreq/results/atomic.py": [["tests/test_store.py"]],
    "fastfreq/results/store.py": [["tests/test_store.py"], ["tests/test_damaged_files.py"]],
    "fastfreq/results/codec.py": [["tests/test_damaged_files.py"], ["tests/saved"], CONTRACT],
    "fastfreq/results/folds.py": [["tests/saved"], CONTRACT, ["tests/test_results.py"]],
    "fastfreq/results/identity.py": [["tests/test_results.py", "-k", "identity or model"], CONTRACT],
    "fastfreq/results/comparison.py": [["tests/test_results.py"], ["tests/test_heatmap.py", "-k", "compar"]],
    "fastfreq/results/result.py": [ENGINE, CONTRACT, ["tests/test_results.py"]],
    "fastfreq/engine/checkpoint.py": [ENGINE, CONTRACT],
    "fastfreq/engine/images.py": [ENGINE, ["tests/test_sources.py"], CONTRACT],
    "fastfreq/engine/sources.py": [["tests/test_sources.py"], ENGINE],
    "fastfreq/engine/measure.py": [ENGINE, CONTRACT],
    "fastfreq/engine/session.py": [ENGINE, CONTRACT, ["tests/test_heatmap.py", "-k", "memory or finite"]],
    "fastfreq/engine/network.py": [ENGINE, CONTRACT],
    "fastfreq/engine/folding.py": [["tests/test_folding.py"]],
    "fastfreq/engine/uses.py": [["tests/test_folding.py"]],
    "fastfreq/engine/run.py": [ENGINE, CONTRACT],
    "fastfreq/engine/contexts.py": [CONTRACT],
}


# ---------------------------------------------------------------- changes
FLIPS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
SWAPS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Add,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """(in words, what stands in place of a node)."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in FLIPS:
        other = copy.deepcopy(node)
        other.ops[0] = FLIPS[type(node.ops[0])]()
        yield "comparison", other
    if isinstance(node, ast.BinOp) and type(node.op) in SWAPS and not _is_text(node):
        other = copy.deepcopy(node)
        other.op = SWAPS[type(node.op)]()
        yield "operator", other
    if isinstance(node, ast.Constant) and type(node.value) is int:
        yield "number", ast.Constant(1 if node.value == 0 else 0 if node.value == 1 else node.value + 1)
    if isinstance(node, ast.Constant) and type(node.value) is bool:
        yield "truth value", ast.Constant(not node.value)
    if isinstance(node, ast.BoolOp):
        for i in range(len(node.values)):
            rest = [copy.deepcopy(v) for j, v in enumerate(node.values) if j != i]
            yield "condition left out", rest[0] if len(rest) == 1 else ast.BoolOp(copy.deepcopy(node.op), rest)
    if isinstance(node, ast.If):
        other = copy.deepcopy(node)
        other.test = ast.Constant(False)
        yield "never", other
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "not left out", copy.deepcopy(node.operand)
    if isinstance(node, ast.Return) and node.value is not None and not _is_text(node.value):
        yield "returns None", ast.Return(ast.Constant(None))
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield "call left out", ast.Pass()


def _is_text(node: ast.AST) -> bool:
    return any(isinstance(n, ast.JoinedStr) or (isinstance(n, ast.Constant) and isinstance(n.value, str))
               for n in ast.walk(node))  # fmt: skip


def _skipped(tree: ast.Module) -> set[int]:
    """Nodes that nobody runs: docstrings, messages, annotations."""
    found: set[int] = set()
    for node in ast.walk(tree):
        inside: list[ast.AST] = []
        if isinstance(node, (ast.JoinedStr, ast.Raise)):
            inside = [node]
        elif isinstance(node, ast.AnnAssign):
            inside = [node.annotation]
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            inside = [a.annotation for a in [*node.args.args, *node.args.kwonlyargs] if a.annotation]
            inside += [node.returns] if node.returns else []
        elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            inside = [node]
        found |= {id(n) for part in inside for n in ast.walk(part)}
    return found


def mutants(source: str) -> list[tuple[str, str]]:
    """(line and change in words, the changed source) of a module."""
    tree, lines = ast.parse(source), source.splitlines()
    skipped, found = _skipped(tree), []
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            for i, node in enumerate(value if isinstance(value, list) else [value]):
                if not isinstance(node, ast.AST) or id(node) in skipped:
                    continue
                for words, other in changes(node):

                    def put(new: ast.AST, value=value, i=i, parent=parent, field=field) -> None:
                        if isinstance(value, list):
                            value[i] = new
                        else:
                            setattr(parent, field, new)

                    put(ast.copy_location(other, node))
                    text = ast.unparse(ast.fix_missing_locations(tree))
                    put(node)
                    line = getattr(node, "lineno", 0)
                    found.append((f"{line}: {words}: {lines[line - 1].strip()}", text))
    return found


# ---------------------------------------------------------------- trying them
def notices(root: Path, tests: list[str]) -> bool:
    """Whether tests fail in the copy: in a process of its own, which has torch and pytest loaded already."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        os.chdir(root)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        import pytest

        try:
            code = pytest.main(["-q", "-x", "-p", "no:cacheprovider", "--tb=no", *tests])
        except BaseException:
            code = 1
        os._exit(int(code))
    ends = time.monotonic() + LIMIT
    while time.monotonic() < ends:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return not os.WIFEXITED(status) or os.WEXITSTATUS(status) not in (0, 5)
        time.sleep(0.02)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return True


def tried(root: Path, module: str, text: str, cover: list[list[str]]) -> bool:
    """Whether a test notices `text` in place of a module."""
    path = root / module
    before = path.read_text()
    path.write_text(text)
    try:
        return any(notices(root, tests) for tests in cover)
    finally:
        path.write_text(before)


def copied() -> Path:
    """A copy of the checkout, without what git and tools keep."""
    root = Path(tempfile.mkdtemp(prefix="fastfreq-mutants-")) / "checkout"
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns(".git", "__pycache__", ".pytest_cache", ".ruff_cache"))
    return root


def sampled(root: Path, seed: int, minutes: float, only: str) -> None:
    """Try changes of all modules in turn until the time is over."""
    rng = random.Random(seed)
    every = {m: mutants((root / m).read_text()) for m in COVER if only in m}
    queues = {m: rng.sample(found, len(found)) for m, found in every.items()}
    distinct = {tuple(tests) for m in queues for tests in COVER[m]}
    broken = [tests for tests in distinct if notices(root, list(tests))]
    modules = [m for m in queues if not any(tuple(tests) in broken for tests in COVER[m])]
    print("tests that fail without any change:", broken or "none", flush=True)
    ends, number, survivors = time.monotonic() + 60 * minutes, 0, 0
    while any(queues[m] for m in modules) and time.monotonic() < ends:
        for module in modules:
            if queues[module] and time.monotonic() < ends:
                words, text = queues[module].pop()
                number += 1
                if not tried(root, module, text, COVER[module]):
                    survivors += 1
                    print(f"survived: {module}:{words}", flush=True)
    total = sum(map(len, every.values()))
    print(f"{number} of {total} changes tried (seed {seed}), {number - survivors} noticed, {survivors} survived")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="modules whose path holds this")
    parser.add_argument("--named", action="store_true")
    given = parser.parse_args()
    root = copied()
    sys.dont_write_bytecode = True
    sys.path[:] = [str(root), str(root / "kernels")] + [p for p in sys.path if not p.startswith(str(ROOT))]
    os.environ["PYTHONPATH"] = f"{root}:{root / 'kernels'}"
    import matplotlib.figure  # noqa: F401
    import numba  # noqa: F401
    import pytest  # noqa: F401
    import scipy.stats  # noqa: F401
    import torch

    torch.set_num_threads(1)
    try:
        if given.named:
            sys.path.insert(0, str(root / "tests" / "proofs"))
            from named_mutations import try_all

            sys.exit(try_all(root, tried))
        sampled(root, given.seed, given.minutes, given.only)
    finally:
        shutil.rmtree(root.parent)


if __name__ == "__main__":
    main()
