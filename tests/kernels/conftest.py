"""What tests of several operations share."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


def _release(module):
    return tuple(int(part) for part in re.findall(r"\d+", module.__version__)[:2])


@pytest.fixture
def run_under_the_interpreter():
    """Run the tests of a file whose names hold "triton" in Triton's interpreter, in a process of their own."""
    triton = pytest.importorskip("triton")
    if _release(triton) < (3, 7) and _release(np) >= (2, 4):
        pytest.skip("the interpreter of triton 3.6 takes scalars in a way that numpy 2.4 refuses")

    def run(file, select="triton and not test_triton"):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, "-k", select, file],
            env={**os.environ, "TRITON_INTERPRET": "1"}, cwd=Path(__file__).parents[2], capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert re.search(r"\b(\d+) passed", done.stdout) and "skipped" not in done.stdout, done.stdout[-2000:]

    return run
