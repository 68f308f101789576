"""Ranks killed at any moment, saves and renames included: the rest stop with a message, any number of ranks goes on."""

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
from tests.proofs import in_ranks, measurements

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.proofs.in_ranks"])
LIMIT = 120  # seconds: a run takes one or two
CHAINS = 13  # of each of four measurements: 52


def start(name: str, path: Path, size: int, meeting: str, dying: dict[int, tuple[str, int]] | None = None) -> list[Any]:
    """The processes of one run."""
    group: list[Any] = [
        CONTEXT.Process(
            target=in_ranks.run, args=(name, path, rank, size, meeting, (dying or {}).get(rank)), daemon=True
        )
        for rank in range(size)
    ]
    for process in group:
        process.start()
    return group


def end(group: list[Any]) -> None:
    """Wait for all; none is left behind."""
    try:
        for process in group:
            process.join(LIMIT)
            assert process.exitcode is not None, "expected every rank to end by itself"
    finally:
        for process in group:
            process.kill()


def finished(name: str, path: Path, size: int, meeting: str) -> float:
    """Seconds that a run takes that nobody kills."""
    began, group = time.monotonic(), start(name, path, size, meeting)
    end(group)
    assert [process.exitcode for process in group] == [0] * size
    assert not list(path.parent.glob(f"{meeting}-*.txt"))
    return time.monotonic() - began


def killed(name: str, path: Path, size: int, meeting: str, seconds: float, rng: np.random.Generator) -> str:
    """A run of which one rank, or all of them, die; how. The others have to stop within the time of silence."""
    how = str(rng.choice(["one", "all", *in_ranks.STEPS]))
    victim = int(rng.integers(size))
    dying = {victim: (how, int(rng.integers(0, 4)))} if how in in_ranks.STEPS else {}
    group = start(name, path, size, meeting, dying)
    if not dying:
        group[victim].join(rng.uniform(0.3, 1) * seconds)
        for process in group if how == "all" else [group[victim]]:
            process.kill()
    group[victim].join(LIMIT)
    dead = time.monotonic()
    end(group)
    late = time.monotonic() - dead
    assert late < in_ranks.SILENT + 5, f"expected the rest to stop, it took {late:.1f} seconds"
    for file in path.parent.glob(f"{meeting}-*.txt"):
        text = file.read_text()
        assert f"expected all {size} ranks" in text and "the same call goes on" in text, text
    return how


@pytest.mark.slow
@pytest.mark.parametrize("name", measurements.MEASUREMENTS)
def test_killed_ranks_go_on_to_the_same_bits_in_any_number(tmp_path, name):
    rng = np.random.default_rng([CHAINS, len(name)])
    (tmp_path / "whole").mkdir()
    finished(name, tmp_path / "whole" / "c.npz", 1, "alone")
    expected = (tmp_path / "whole" / "result.npz").read_bytes()
    seconds = finished(name, tmp_path / "whole" / "d.npz", 2, "both")
    assert (tmp_path / "whole" / "result.npz").read_bytes() == expected
    seen: collections.Counter[str] = collections.Counter()
    for number in range(CHAINS):
        folder = tmp_path / f"chain{number}"
        folder.mkdir()
        path = folder / "c.npz"
        sizes = [int(size) for size in rng.permutation([1, 2, 3])]
        for i in range(1 + number % 2):
            seen[killed(name, path, max(2, sizes[i]), f"kill{i}", seconds, rng)] += 1
        seen["kept"] += path.exists() or any((folder / "c.npz.parts").glob("*.npz"))
        finished(name, path, sizes[-1], "last")
        seen["same bytes"] += (folder / "result.npz").read_bytes() == expected
        found, wanted = (ff.load(file) for file in (folder / "result.npz", tmp_path / "whole" / "result.npz"))
        subjects.assert_same(subjects.numbers(found), subjects.numbers(wanted))
        left = [file.name for file in folder.iterdir() if file.name.startswith(("c.npz", ".c.npz"))]
        assert left == ["c.npz"], left
    print(f"{name}: {CHAINS} chains, {dict(seen)}, {seconds:.1f} s a run")
    assert seen["same bytes"] == CHAINS
    assert seen["kept"], "expected some kills after a save"
