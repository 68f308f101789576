"""Runs killed at any moment, again and again, end with the figures of a run that nobody killed."""

from __future__ import annotations

import collections
import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastfreq as ff
from tests.contract import subjects
from tests.proofs import measurements

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.proofs.measurements"])
LIMIT = 120  # seconds: a run takes one or two


def start(name: str, path: Path) -> Any:
    """A process that measures; its result will stand beside its checkpoint's folder."""
    process = CONTEXT.Process(
        target=measurements.run_and_save, args=(name, path, path.parent.parent / "result.npz"), daemon=True
    )
    process.start()
    return process


def finished(name: str, path: Path) -> float:
    """Seconds that a run takes that nobody kills."""
    began, process = time.monotonic(), start(name, path)
    process.join(LIMIT)
    assert process.exitcode == 0
    return time.monotonic() - began


def chain(name: str, path: Path, kills: int, seconds: float, rng: np.random.Generator) -> int:
    """Kill a run so often, then let it finish; how many of the kills found images that were kept."""
    found = 0
    while kills:
        process = start(name, path)
        process.join(rng.uniform(0.05, 1) * seconds)
        if process.exitcode is not None:  # it was faster than that: once more from the start
            assert process.exitcode == 0
            path.unlink()
            continue
        process.kill()
        process.join()
        found += path.exists()
        kills -= 1
    finished(name, path)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("chains", "name"), [(10, name) for name in measurements.MEASUREMENTS])
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, chains, name):
    rng = np.random.default_rng([chains, len(name)])
    (tmp_path / "whole").mkdir()
    seconds = finished(name, tmp_path / "whole" / "c.npz")
    expected = (tmp_path / "result.npz").read_bytes()
    seen: collections.Counter[str] = collections.Counter()
    for number in range(chains):
        folder = tmp_path / f"chain{number}"
        folder.mkdir()
        kills = 1 + number % 2
        seen["kept"] += chain(name, folder / "c.npz", kills, seconds, rng)
        seen["kills"] += kills
        seen["same bytes"] += (tmp_path / "result.npz").read_bytes() == expected
        found, wanted = (ff.load(file) for file in (tmp_path / "result.npz", tmp_path / "whole" / "c.npz"))
        subjects.assert_same(subjects.numbers(found), subjects.numbers(wanted))
        assert [file.name for file in folder.iterdir()] == ["c.npz"], "expected nothing but the checkpoint"
        (tmp_path / "result.npz").unlink()
    print(f"{name}: {chains} chains, {dict(seen)}, {seconds:.1f} s a run")
    assert seen["same bytes"] == chains
    assert seen["kept"], "expected some kills after a save"
