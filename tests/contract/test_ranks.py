"""Several processes measure as one does: the same bits of every measurement, for models however they are wrapped."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

import fastfreq as ff
from tests.contract import in_ranks, subjects
from tests.contract.table import rows

SIZES = (pytest.param(2, marks=pytest.mark.slow), 3)  # of two, only wrapped models are measured by default
LIMIT = 100  # seconds; a group takes five
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.contract.in_ranks"])


@pytest.fixture(scope="module")
def measured(tmp_path_factory, request) -> Path:
    """A folder with what each rank of each group found, in one group of each size: all rows, if they are asked for."""
    folder = tmp_path_factory.mktemp("ranks")
    specs = [item.callspec for item in request.session.items if getattr(item, "path", None) == Path(__file__)]
    for size in (2, 3):
        asked = [spec.params for spec in specs if "row" in spec.params and spec.params.get("size", 3) == size]
        names = sorted({params["row"].name for params in asked})
        group: list[Any] = [
            CONTEXT.Process(target=in_ranks.every_row, args=(rank, size, folder, names), daemon=True)
            for rank in range(size)
        ]
        for process in group:
            process.start()
        for process in group:
            process.join(LIMIT)
            process.kill()
        assert [process.exitcode for process in group] == [0] * size
    return folder


def found(folder: Path, name: str, size: int) -> list[Any]:
    """The result of each rank."""
    said = [file.read_text() for file in sorted(folder.glob(f"{name}-{size}-*.txt"))]
    assert not said, said[0]
    return [ff.load(folder / f"{name}-{size}-{rank}.npz") for rank in range(size)]


@pytest.mark.parametrize("size", SIZES)
@rows()
def test_ranks_find_what_one_process_finds(row, size, measured):
    """Every number, sums of floats too, on every rank."""
    expected = row.numbers(row.plain(**in_ranks.options(row, size)))
    for result in found(measured, row.name, size):
        subjects.assert_same(row.numbers(result), expected)


@rows("model", "images", "shared passes")
def test_ranks_share_the_forward_passes(row, measured):
    """Of two batches no rank makes more than there are; each makes the few passes that tell models apart."""
    calls = [int((measured / f"{row.name}-3-{rank}.calls").read_text()) for rank in range(3)]
    subjects.EVENTS.reset()
    row.plain(**in_ranks.options(row, 3))
    assert min(calls) < subjects.EVENTS.calls and sum(calls) <= subjects.EVENTS.calls + 2 * min(calls)


@pytest.mark.parametrize("size", (2, 3))
@pytest.mark.parametrize("name", sorted(in_ranks.WRAPPED.keys() - in_ranks.REFUSED.keys()))
def test_wrapped_models_are_the_model(name, size, measured):
    expected = in_ranks.heatmap(subjects.network())
    for result in found(measured, f"wrapped-{name}", size):
        subjects.assert_same(subjects.numbers(result), subjects.numbers(expected))
        assert result.model.difference(expected.model) is None


@pytest.mark.parametrize("name", in_ranks.REFUSED)
def test_models_that_cannot_be_unwrapped_are_refused(name, measured):
    for rank in range(2):
        assert in_ranks.REFUSED[name] in (measured / f"wrapped-{name}-2-{rank}.txt").read_text()
